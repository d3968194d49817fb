"""A board and its results as one page of markdown; the same input gives the same bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import jinja2
import pandas as pd

from msgm_bench.api.result import Result
from msgm_bench.boards.board import Board, Cell, Column
from msgm_bench.boards.eligibility import POLICY, training
from msgm_bench.boards.protocols import flatten
from msgm_bench.boards.ranking import Standing, rows, stamps_of
from msgm_bench.boards.text import (
    ARROWS,
    Footnotes,
    code,
    estimate,
    fenced,
    prose,
    tag_text,
)
from msgm_bench.storage import one_line_yaml, page_text, single_line
from msgm_bench.storage.markdown import DASH

SHOWN = (
    "versions",
    "packages",
    "plugins",
    "code",
    "python",
    "torch",
    "git_commit",
    "dataset_fingerprint",
    "hardware",
    "passes",
    "device",
    "threads",
    "precision",
)
"""Parts of the provenance that a page shows."""

_PRIVATE = re.compile(r"host|node|user|path|folder|home|cwd|file$", re.IGNORECASE)
_PATH = re.compile(r"^(~|/|\.{1,2}/|[A-Za-z]:\\|file:)|[\\/](home|Users|root|tmp|mnt)[\\/]")


def render(
    board: Board,
    results: Sequence[Result],
    frame: pd.DataFrame,
    standings: Sequence[Standing],
    stamps: Sequence[str],
) -> str:
    """The text of the page.

    Args:
        board: What is shown.
        results: All results of the board.
        frame: Their tidy table.
        standings: Methods in the order of the page.
        stamps: Why the baseline is not sound; every row is stamped if there is any.
    """
    notes = Footnotes()
    return _template().render(
        board=board,
        stated=_stated(board.cell),
        pass_items=_pass_items(results),
        commands=[" ".join(single_line(line).split()) for line in board.commands],
        older=sum(bool(result.provenance.get("migrated_from")) for result in results),
        count=len(results),
        policies=_policies(board, results),
        stamps=stamps,
        doubts=stamps_of(frame),
        header=[_heading(frame, column) for column in board.columns],
        rows=[_row(board, frame, standing, notes, bool(stamps)) for standing in standings],
        notes=notes.texts,
        measured=_measured(board, frame),
        protocols=_protocols(board, results),
        options=_options(results),
        provenance=_provenance(results),
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("msgm_bench.boards"),
        autoescape=False,  # markdown: the filters escape
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        page_text=page_text, code=code, prose=prose, tag_text=tag_text, fenced=fenced
    )
    return environment.get_template("page.md.j2")


def _stated(cell: Cell) -> list[str]:
    """The options that all results have, as on a command line."""
    flags = [("-d ", cell.dataset_params), ("-b ", cell.backbone_params)]
    flags += [(f"-p {name}.", options) for name, options in cell.method_params.items()]
    flags += [(f"-t {name}.", options) for name, options in cell.task_params.items()]
    return [
        f"{flag}{key}={value if isinstance(value, str) else one_line_yaml(value)}"
        for flag, options in flags
        for key, value in options.items()
    ]


def _pass_items(results: Iterable[Result]) -> int | None:
    """Items of one pass, where a result says so; they are one over a board of passes."""
    counts = (result.spec.settings.get("pass_items") for result in results)
    return next((count for count in counts if count is not None), None)


def _policies(board: Board, results: Iterable[Result]) -> dict[str, list[str]]:
    """What decides, beside the passes, how far each method's budget carries."""
    if board.cell.passes is None:
        return {}
    used = {r.spec.method: training(r.spec) for r in results if training(r.spec)}
    return {
        name: [str(used[name].get(key, DASH)) for key in POLICY]
        for name in board.methods
        if name in used
    }


def column_label(column: Column) -> str:
    """The heading that a board gives, or the metric and its split."""
    return column.label or f"{column.metric}, {column.split}"


def heading(frame: pd.DataFrame, column: Column) -> str:
    """Label, unit and arrow: ``UR (%) ↓``."""
    found = frame[(frame["key"] == str(column.key)) & (frame["unit"] != "")]
    label = column_label(column)
    if found.empty:
        return label
    unit, direction = found.iloc[0][["unit", "direction"]]
    return f"{label} ({unit}) {ARROWS.get(direction, '')}".rstrip()


def _heading(frame: pd.DataFrame, column: Column) -> str:
    return page_text(heading(frame, column))


def _row(
    board: Board, frame: pd.DataFrame, standing: Standing, notes: Footnotes, stamped: bool
) -> list[str]:
    """Cells of one line of the table."""
    method = standing.method
    count = frame.loc[frame["method"] == method, "seed"].nunique()
    remarks = list(standing.notes)
    if 0 < count < board.seeds:
        remarks.append(f"{count} of {board.seeds} seeds")
    roles = {board.gate.reference: "reference", board.baseline.method: "baseline"}
    role = f" ({roles[method]})" if method in roles else ""
    place = f"**{standing.label}**" if standing.rank == 1 else standing.label
    cells = [
        f"{place}{' ⚠' if stamped else ''}",
        f"{code(method)}{role}{notes.mark(*remarks)}",
        str(count),
    ]
    for column in board.columns:
        text, said = estimate(rows(frame, method, column.key), column.digits)
        cells.append(f"{text}{notes.mark(*said)}")
    return cells


def _measured(board: Board, frame: pd.DataFrame) -> list[dict[str, str]]:
    """Protocol and number of items of each quantity that the page uses."""
    lines = []
    for key in board.keys:
        found = frame[(frame["key"] == str(key)) & (frame["protocol"] != "")]
        if found.empty:
            continue
        counts = sorted(set(found["n"]))
        span = f"{counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")
        protocol, digits = found.iloc[0][["protocol", "hash"]]
        lines.append({"key": str(key), "protocol": protocol, "hash": digits, "n": span})
    return lines


def _protocols(board: Board, results: Iterable[Result]) -> dict[str, list[str]]:
    """Settings, as lines of JSON, of the protocols that the page uses."""
    used: dict[str, list[str]] = {}
    for result in results:
        for key in board.keys:
            row = key.row(result)
            if row is not None and row.protocol not in used:
                used[row.protocol] = _json(result.protocols[row.protocol].settings)
    return dict(sorted(used.items()))


def _options(results: Iterable[Result]) -> dict[str, list[str]]:
    """How each method was run, as lines of JSON."""
    fields = {"regime", "params", "settings", "backbone_params", "dataset_params"}
    given = {r.spec.method: r.spec.model_dump(include=fields) for r in results}
    return {method: _json({k: v for k, v in spec.items() if v}) for method, spec in given.items()}


def _json(value: Any) -> list[str]:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).split("\n")


def _provenance(results: Iterable[Result]) -> dict[str, str]:
    """What the results say of their making; no host, path or user."""
    found: dict[str, set[str]] = {}
    for result in results:
        chosen = {key: result.provenance[key] for key in SHOWN if key in result.provenance}
        for key, value in flatten(chosen).items():
            parts = value if isinstance(value, list | tuple) else [value]
            text = ", ".join(str(part) for part in parts if isinstance(part, str | int | float))
            text = text[:12] if key.startswith("code.") else text
            if text and not _PATH.search(text) and not _PRIVATE.search(key.rpartition(".")[2]):
                found.setdefault(key, set()).add(text)
    return {key: "; ".join(sorted(found[key])) for key in sorted(found)}
