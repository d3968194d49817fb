"""``protocols.md``: how a board's values were measured, how its methods were run, and on what."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from msgm_bench.api.result import Result
from msgm_bench.boards.board import ORIGINS, Board
from msgm_bench.boards.departures import departures
from msgm_bench.boards.eligibility import POLICY, training
from msgm_bench.boards.markdown import Footnotes, code
from msgm_bench.boards.protocols import flatten
from msgm_bench.boards.ranking import RankedRow
from msgm_bench.boards.render import page_heading, role, seeds_of, template, values
from msgm_bench.boards.tuning_record import TuningRecord
from msgm_bench.storage import single_line
from msgm_bench.storage.markdown import DASH

PROVENANCE = (
    "versions",
    "packages",
    "python",
    "torch",
    "git_commit",
    "dataset_fingerprint",
    "hardware",
    "device",
    "threads",
    "precision",
)
"""Parts of the provenance that the page has."""

_PRIVATE = re.compile(r"host|node|user|path|folder|home|cwd|file$", re.IGNORECASE)
_PATH = re.compile(r"^(~|/|\.{1,2}/|[A-Za-z]:\\|file:)|[\\/](home|Users|root|tmp|mnt)[\\/]")

Fields = Mapping[str, Any]


def render_protocols(
    board: Board,
    results: Sequence[Result],
    frame: pd.DataFrame,
    ranked: Sequence[RankedRow],
    tuning: TuningRecord | None = None,
) -> str:
    """The text of ``protocols.md``."""
    notes = Footnotes()
    measured = quantities(board, frame)
    shared, own = settings(results)
    return template("protocols.md.j2").render(
        board=board,
        commands=[" ".join(single_line(line).split()) for line in board.commands],
        header=[page_heading(frame, column) for column in board.details],
        rows=[
            [
                f"{code(row.method)}{role(board, row.method)}",
                str(seeds_of(frame, row.method)),
                *values(frame, row.method, board.details, notes),
            ]
            for row in ranked
        ],
        notes=notes.texts,
        measured=measured,
        protocols=protocol_settings(board, results),
        policies=policies(board, results),
        without_passes=without_passes(board, results),
        tuning=tuning,
        origin_texts=ORIGINS,
        shared=shared,
        own={name: own[name] for name in board.methods if own.get(name)},
        provenance=provenance(results),
        digests=code_digests(results),
    )


def quantities(board: Board, frame: pd.DataFrame) -> list[dict[str, str]]:
    """Protocol and number of items of each quantity of the board."""
    lines = []
    for key in board.quantities:
        measured = frame[(frame["key"] == str(key)) & (frame["protocol"] != "")]
        if measured.empty:
            continue
        counts = sorted(set(measured["n"]))
        span = f"{counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")
        protocol, digits = measured.iloc[0][["protocol", "hash"]]
        lines.append({"key": str(key), "protocol": protocol, "hash": digits, "n": span})
    return lines


def protocol_settings(board: Board, results: Iterable[Result]) -> list[tuple[str, str, list[str]]]:
    """Each setting with its value, once, and the protocols that have it."""
    used: dict[str, Fields] = {}
    for result in results:
        for key in board.quantities:
            row = key.row(result)
            if row is not None:
                used.setdefault(row.protocol, result.protocols[row.protocol].settings)
    sharing: dict[tuple[str, str], list[str]] = {}
    for protocol, fields in sorted(used.items()):
        for name, value in fields.items():
            sharing.setdefault((name, compact(value)), []).append(protocol)
    return [(name, value, names) for (name, value), names in sorted(sharing.items())]


def policies(board: Board, results: Iterable[Result]) -> dict[str, list[str]]:
    """The passes of each method, and what else decides how far they carry."""
    trained = [result for result in results if training(result.spec)]
    used = {result.spec.method: training(result.spec) for result in trained}
    return {
        name: [
            *(str(used[name].get(key, DASH)) for key in POLICY),
            passes(result for result in trained if result.spec.method == name),
        ]
        for name in board.methods
        if name in used
    }


def without_passes(board: Board, results: Iterable[Result]) -> list[str]:
    """Methods that train for a number of steps, whatever the board's passes: the baselines."""
    budgets = {result.spec.method: training(result.spec) for result in results}
    return [
        name for name in board.methods if budgets.get(name) and budgets[name].get("passes") is None
    ]


def passes(results: Iterable[Result]) -> str:
    """Passes of a method's own training, rounded, over its seeds."""
    recorded = ((result.provenance.get("passes", {}), result.spec.method) for result in results)
    spent = (counts.get(f"train {method}") for counts, method in recorded)
    numbers = {f"{count:.0f}" for count in spent if isinstance(count, int | float)}
    return span(numbers) if numbers else DASH


def settings(results: Iterable[Result]) -> tuple[list[str], dict[str, list[str]]]:
    """What all methods have otherwise than the preset, and what each one has beside that."""
    runs = {r.spec.method: departures(r.spec) for r in results}
    texts = {
        method: {f"{key}={compact(value)}" for key, value in run.items()}
        for method, run in runs.items()
    }
    shared = set.intersection(*texts.values()) if texts else set()
    return sorted(shared), {method: sorted(lines - shared) for method, lines in texts.items()}


def compact(value: Any) -> str:
    """A value on one line: ``count=4000, nfe=50`` of a mapping, JSON of the rest."""
    if isinstance(value, Mapping) and value:
        return ", ".join(f"{key}={_json(part)}" for key, part in sorted(flatten(value).items()))
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return (
        value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    )


def provenance(results: Iterable[Result]) -> dict[str, str]:
    """Versions and hardware of the results; no host, path or user."""
    values: dict[str, set[str]] = {}
    for result in results:
        chosen = {key: result.provenance[key] for key in PROVENANCE if key in result.provenance}
        chosen["plugins"] = distributions(result)
        for key, value in flatten(chosen).items():
            parts = value if isinstance(value, list | tuple) else [value]
            text = ", ".join(str(part) for part in parts if isinstance(part, str | int | float))
            if text and not _PATH.search(text) and not _PRIVATE.search(key.rpartition(".")[2]):
                values.setdefault(key, set()).add(text)
    return {key: span(values[key]) for key in sorted(values)}


def distributions(result: Result) -> list[str]:
    """Distributions, with their versions, whose plugins took part."""
    recorded = result.provenance.get("plugins", {})
    return sorted({str(origin).partition(" (")[0] for origin in recorded.values()})


def span(texts: set[str]) -> str:
    """All texts; of more than two numbers the smallest and the largest."""
    try:
        numbers = sorted((float(text), text) for text in texts)
    except ValueError:
        return "; ".join(sorted(texts))
    if len(numbers) > 2:
        return f"{numbers[0][1]} to {numbers[-1][1]}"
    return "; ".join(text for _, text in numbers)


def code_digests(results: Iterable[Result]) -> dict[str, str]:
    """First digits of the digests of the code behind the results, by plugin."""
    digests: dict[str, set[str]] = {}
    for result in results:
        recorded = result.provenance.get("code", {})
        for name, value in flatten(recorded).items() if isinstance(recorded, Mapping) else ():
            digests.setdefault(name, set()).add(str(value)[:12])
    return {name: ", ".join(sorted(values)) for name, values in sorted(digests.items())}
