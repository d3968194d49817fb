"""Any results side by side, each cell ranked by the board's rules but without a gate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from msgm_bench.api.result import Result, SpecRecord, digest
from msgm_bench.boards.board import Column, Gate, Quantity
from msgm_bench.boards.collect import tidy
from msgm_bench.boards.protocols import ABSENT, check_same, flatten
from msgm_bench.boards.ranking import rank, rows
from msgm_bench.boards.render import column_label, heading
from msgm_bench.boards.text import estimate
from msgm_bench.errors import UsageError


@dataclass(frozen=True)
class Track:
    """What is shown of a kind of models, and what ranks them."""

    columns: tuple[Column, ...]
    by: Quantity


UNCONDITIONAL = Track(
    (
        Column(metric="ur", split="samples"),
        Column(metric="unrecognisable", split="samples"),
        Column(metric="nll", split="retain", digits=3),
        Column(metric="nll_median", split="retain", digits=3),
        Column(metric="nll", split="forget", digits=3),
        Column(metric="nll_median", split="forget", digits=3),
    ),
    Quantity(metric="ur", split="samples"),
)
CONDITIONAL = Track(
    (
        Column(metric="ua", split="samples"),
        Column(metric="ua_unrecognisable", split="samples"),
        Column(metric="ra", split="samples"),
        Column(metric="fid", split="samples", protocol="fid/judge/kept-classes@1"),
        Column(metric="nll", split="retain", digits=3),
        Column(metric="nll", split="forget", digits=3),
    ),
    Quantity(metric="ua", split="samples"),
)
CELL = ("dataset", "forget", "backbone", "preset")
_VARIANT = ("regime", "params", "settings")


def compare(
    results: Iterable[Result],
    columns: Sequence[Column] | None = None,
    by: Quantity | None = None,
    gate: Gate | None = None,
) -> pd.DataFrame:
    """One line a method and cell, best first.

    Results share a cell where the dataset, the forget set, the backbone, their options, the track
    (class-conditional or not), a given base and the preset agree, and where their models are asked
    in the same way: a one-step generator has a ranking of its own. Within one, a method that was
    run with several options has a line for each, named by what differs.

    Args:
        results: In any order; repeats of the same result count once.
        columns: Quantities to show (None: those of the track); those that no result has are left
            out.
        by: What ranks; None: what ranks the track.
        gate: As a board's; None ranks all.

    Returns:
        Text columns ``dataset, forget, backbone, preset, rank, method, seeds``, one for each
        quantity (heading with unit and arrow) and ``notes``.

    Raises:
        ProtocolMixError: Results of one cell were measured in different ways.
        UsageError: Two different results of one cell have the same options and seed.
    """
    cells: dict[str, list[Result]] = {}
    for result in {identity(result): result for result in results}.values():
        cells.setdefault(f"{shared_run(result.spec)} {_demanded(result)}", []).append(result)
    lines: list[dict[str, str]] = []
    shown: dict[Column, None] = {}
    for name in sorted(cells):
        track = CONDITIONAL if cells[name][0].spec.conditional else UNCONDITIONAL
        chosen = track.columns if columns is None else columns
        lines += _lines(cells[name], chosen, track.by if by is None else by, gate)
        shown |= dict.fromkeys(chosen)
    front = (*CELL, "rank", "method", "seeds")
    found = {name for line in lines for name in line} - {*front, "notes"}
    order = [*front, *sorted(found, key=lambda name: _place(name, list(shown))), "notes"]
    return pd.DataFrame(lines, columns=order, dtype="object").fillna("")


def _demanded(result: Result) -> str:
    """The options of tasks that its model needed; empty where it took those of preset and user."""
    demands = result.provenance.get("limits", {}).get("demands", {})
    return "; ".join(
        f"{task}: {', '.join(f'{key} = {value}' for key, value in options.items())}"
        for task, options in sorted(demands.items())
    )


def _lines(
    results: Sequence[Result],
    columns: Sequence[Column],
    by: Quantity,
    gate: Gate | None,
) -> list[dict[str, str]]:
    used = [*columns, by, *(gate.limits if gate else [])]
    keys = list(dict.fromkeys(key.key for key in used))
    check_same(results, keys)
    frame = _labelled(results, keys)
    spec = results[0].spec
    track = "class-conditional" if spec.conditional else ""
    kind = "; ".join(word for word in (track, _demanded(results[0])) if word)
    backbone = f"{spec.backbone} ({kind})" if kind else spec.backbone
    backbone += f", base {spec.base[:8]}" if spec.base else ""
    named = (spec.dataset, ",".join(spec.forget), backbone, spec.preset)
    cell = dict(zip(CELL, named, strict=True))
    lines = []
    for row in rank(frame, list(dict.fromkeys(frame["method"])), by.key, gate):
        seeds = sorted(set(frame.loc[frame["method"] == row.method, "seed"]))
        line = {**cell, "rank": row.label, "method": row.method}
        line["seeds"] = ",".join(map(str, seeds))
        notes = list(row.notes)
        for column in columns:
            if frame.loc[frame["key"] == str(column.key), "protocol"].eq("").all():
                continue
            text, said = estimate(rows(frame, row.method, column.key), column.digits)
            line[heading(frame, column)] = text
            notes += said
        lines.append(line | {"notes": "; ".join(dict.fromkeys(notes))})
    return lines


def _place(name: str, columns: Sequence[Column]) -> tuple[int, str]:
    """Where a heading stands: by its column, then (units may differ between cells) by itself."""
    labels = [column_label(column) for column in columns]
    fits = (i for i, label in enumerate(labels) if f"{name} (".startswith(f"{label} ("))
    return next(fits, len(labels)), name


def labels(results: Sequence[Result]) -> list[str]:
    """The method of each result, with the options that differ where one was run with several."""
    variants: dict[str, dict[str, dict[str, Any]]] = {}
    options = [_variant(result.spec) for result in results]
    for result, given in zip(results, options, strict=True):
        variants.setdefault(result.spec.method, {})[digest(given)] = flatten(given)
    return [
        _label(method, variants[method][digest(given)], variants[method])
        for method, given in zip((r.spec.method for r in results), options, strict=True)
    ]


def shared_run(spec: SpecRecord) -> str:
    """What results share that stand side by side: data, forget set, backbone, track, preset."""
    shared = {"dataset_params", "backbone_params", *(["base"] if spec.base else [])}
    options = spec.model_dump(include=shared)
    forget = ",".join(sorted(spec.forget))
    track = str(spec.conditional)
    return "\0".join((spec.dataset, forget, spec.backbone, track, spec.preset, digest(options)))


def identity(result: Result) -> str:
    """The same for repeats of one result, wherever and whenever they were made."""
    return result.content_digest()


def _labelled(results: Sequence[Result], keys: Sequence[Quantity]) -> pd.DataFrame:
    """The tidy table, with the options that differ added to the names of methods."""
    places: set[tuple[str, int]] = set()
    names = labels(results)
    for result, label in zip(results, names, strict=True):
        if (label, result.spec.seed) in places:
            raise UsageError(
                f"two different results of {label} seed {result.spec.seed}",
                "one result for the same options and seed",
                "leave one of the two out",
            )
        places.add((label, result.spec.seed))
    return tidy(results, keys, names)


def _label(method: str, options: Mapping[str, Any], among: Mapping[str, Mapping[str, Any]]) -> str:
    names = sorted({key for other in among.values() for key in other})
    differing = [
        key for key in names if len({repr(o.get(key, ABSENT)) for o in among.values()}) > 1
    ]
    said = ", ".join(
        f"{key.removeprefix('params.')}={options.get(key, ABSENT)}" for key in differing
    )
    return f"{method} ({said})" if said else method


def _variant(spec: SpecRecord) -> dict[str, Any]:
    return spec.model_dump(include=set(_VARIANT))
