"""Any results side by side, each group ranked by the board's rules but without a gate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import pandas as pd

from msgm_bench.api.result import Result, SpecRecord, digest
from msgm_bench.api.track import Track, track_name
from msgm_bench.boards.board import Column, Gate, Quantity
from msgm_bench.boards.collect import tidy
from msgm_bench.boards.markdown import estimate
from msgm_bench.boards.protocols import ABSENT, check_same, flatten
from msgm_bench.boards.ranking import RankedRow, rank, rows
from msgm_bench.boards.render import column_label, heading
from msgm_bench.boards.track_columns import ranking_quantity, track_columns
from msgm_bench.errors import UsageError

GROUP = ("dataset", "forget", "backbone", "preset")
FRONT = (*GROUP, "rank", "method", "seeds")
_VARIANT = ("regime", "params", "settings")


def compare(
    results: Iterable[Result],
    columns: Sequence[Column] | None = None,
    by: Quantity | None = None,
    gate: Gate | None = None,
) -> pd.DataFrame:
    """One line a method and group of results, best first.

    Results form a group where the dataset, the forget set, the backbone, their options, the
    track, the base checkpoint and the preset agree, and where their models need the same options
    of tasks: a one-step generator has a ranking of its own. Within one, a method that was run
    with several options has a line for each, named by what differs.

    Args:
        results: In any order; repeats of the same result count once.
        columns: Quantities in the table (None: those that installed metrics declare for the
            track); those that no result has are left out.
        by: What ranks; None: the leftmost column that ranks the track and has a value.
        gate: As a board's; None ranks all.

    Returns:
        Text columns ``dataset, forget, backbone, preset, rank, method, seeds``, one for each
        quantity (heading with unit and arrow) and ``notes``.

    Raises:
        ProtocolMixError: Results of one group were measured in different ways.
        UsageError: Two different results of one group have the same options and seed.
    """
    groups: dict[str, list[Result]] = {}
    for result in {identity(result): result for result in results}.values():
        groups.setdefault(f"{shared_run(result.spec)} {_demanded(result)}", []).append(result)
    lines: list[dict[str, str]] = []
    headings: dict[Column, dict[str, None]] = {}
    for _, members in sorted(groups.items()):
        track = members[0].spec.track
        chosen = track_columns(track) if columns is None else columns
        headings |= {column: {} for column in chosen if column not in headings}
        key = ranking_quantity(members, track) if by is None else by
        lines += _lines(members, chosen, key, gate, headings)
    ordered = dict.fromkeys(name for names in headings.values() for name in names)
    return pd.DataFrame(lines, columns=[*FRONT, *ordered, "notes"], dtype="object").fillna("")


def _demanded(result: Result) -> str:
    """The options of tasks that its model needed; empty where it took those of preset and user."""
    required = result.provenance.get("limits", {}).get("required_task_options", {})
    return "; ".join(
        f"{task}: {', '.join(f'{key} = {value}' for key, value in options.items())}"
        for task, options in sorted(required.items())
    )


def _lines(
    results: Sequence[Result],
    columns: Sequence[Column],
    by: Quantity | None,
    gate: Gate | None,
    headings: Mapping[Column, dict[str, None]],
) -> list[dict[str, str]]:
    """Lines of one group; ``headings`` receives those of each column, whose units may differ."""
    used = [*columns, *([] if by is None else [by]), *(gate.limits if gate else [])]
    quantities = list(dict.fromkeys(entry.key for entry in used))
    check_same(results, quantities)
    frame = _labelled(results, quantities)
    group = dict(zip(GROUP, _group(results[0]), strict=True))
    methods = list(dict.fromkeys(labels(results)))
    ranked = [RankedRow(method, "missing") for method in methods]
    if by is not None:
        ranked = rank(frame, methods, by.key, gate)
    titles = {
        column: heading(frame, column, _distinct(column, columns))
        for column in columns
        if frame.loc[frame["key"] == str(column.key), "protocol"].ne("").any()
    }
    for column, title in titles.items():
        headings[column][title] = None
    lines = []
    for row in ranked:
        seeds = sorted(set(frame.loc[frame["method"] == row.method, "seed"]))
        line = {**group, "rank": row.label, "method": row.method}
        line["seeds"] = ",".join(map(str, seeds))
        notes = list(row.notes)
        for column, title in titles.items():
            line[title], remarks = estimate(rows(frame, row.method, column.key), column.digits)
            notes += remarks
        lines.append(line | {"notes": "; ".join(dict.fromkeys(notes))})
    return lines


def _group(result: Result) -> tuple[str, str, str, str]:
    """Dataset, forget set, backbone with track and base, and preset of a group."""
    spec = result.spec
    track = "" if spec.track == "unconditional" else track_name(spec.track)
    kind = "; ".join(word for word in (track, _demanded(result)) if word)
    backbone = f"{spec.backbone} ({kind})" if kind else spec.backbone
    backbone += f", base {spec.base[:8]}" if spec.base else ""
    return spec.dataset, ",".join(spec.forget), backbone, spec.preset


def _distinct(column: Column, columns: Sequence[Column]) -> str:
    """The label, with the quantity where another column has the same one."""
    label = column_label(column)
    same = [other for other in columns if column_label(other) == label]
    return label if len(same) == 1 else f"{label}, {column.key}"


def labels(results: Sequence[Result]) -> list[str]:
    """The method of each result, with the options that differ where one was run with several."""
    variants: dict[str, dict[str, dict[str, Any]]] = {}
    options = [_variant(result.spec) for result in results]
    for result, chosen in zip(results, options, strict=True):
        variants.setdefault(result.spec.method, {})[digest(chosen)] = flatten(chosen)
    return [
        _label(method, variants[method][digest(chosen)], variants[method])
        for method, chosen in zip((r.spec.method for r in results), options, strict=True)
    ]


def shared_run(spec: SpecRecord) -> str:
    """What results share that stand side by side: data, forget set, backbone, track, preset."""
    shared = {"dataset_params", "backbone_params", *(["base"] if spec.base else [])}
    options = spec.model_dump(include=shared)
    forget = ",".join(sorted(spec.forget))
    track = str(get_args(Track).index(spec.track))  # groups are sorted by it
    names = (spec.dataset, forget, spec.backbone, track, spec.preset)
    return "\0".join((*names, digest(options)))


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
    text = ", ".join(
        f"{key.removeprefix('params.')}={options.get(key, ABSENT)}" for key in differing
    )
    return f"{method} ({text})" if text else method


def _variant(spec: SpecRecord) -> dict[str, Any]:
    return spec.model_dump(include=set(_VARIANT))
