"""Whether a measured value reproduces a published one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from msgm_bench import PRESETS, Interval, Result, Row
from msgm_paper import caveats
from msgm_paper.comparability import deviations
from msgm_paper.mapping import Setting, kind, quantity, setting
from msgm_paper.margins import MARGINS
from msgm_paper.results import Measured, measured, variant
from msgm_paper.tables import Cell


class Status(StrEnum):
    """What can be said of a published value."""

    REPRODUCED = "reproduced"
    DIFFERS = "differs"
    INCONCLUSIVE = "inconclusive"
    NOT_COMPARABLE = "not comparable"
    NOT_RUN = "not yet run"


@dataclass(frozen=True)
class Verdict:
    """A published cell, what stands beside it, and what that means.

    Attributes:
        cell: The published value.
        setting: The run that it asks for.
        status: The verdict.
        measured: What was measured, or None.
        reasons: Why it is not comparable, or why there is nothing yet.
        remarks: What to bear in mind where values are compared.
        runnable: Whether a run at the paper's budgets would say more.
    """

    cell: Cell
    setting: Setting
    status: Status
    measured: Measured | None = None
    reasons: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    runnable: bool = False


def compare(interval: Interval, published: float, margin: float) -> Status:
    """Reproduced where the interval lies wholly within ``published ± margin``.

    It differs where the interval lies wholly outside; everything else, such as a wide interval,
    is inconclusive.
    """
    low, high = published - margin, published + margin
    if low <= interval.low and interval.high <= high:
        return Status.REPRODUCED
    if interval.high < low or high < interval.low:
        return Status.DIFFERS
    return Status.INCONCLUSIVE


def verdict(cell: Cell, results: Sequence[Result], published: Sequence[Cell]) -> Verdict:
    """Judge one cell by all results; ``published`` are all cells of the paper."""
    asked, wanted = setting(cell), quantity(cell)
    runs = [result for result in results if asked.matches(result.spec)]
    rows = [(r, row) for r in runs if r.status == "ok" and (row := wanted.row(r)) is not None]
    flaws = caveats.objections(cell)
    if not rows:
        status = Status.NOT_COMPARABLE if flaws else Status.NOT_RUN
        return Verdict(cell, asked, status, None, flaws or _attempts(runs), runnable=not flaws)
    against, found, others = _choose(cell, asked, rows)
    reasons = flaws + against + ((f"no value: {found.reason}",) if found.interval is None else ())
    if reasons or found.interval is None:
        return Verdict(
            cell, asked, Status.NOT_COMPARABLE, found, reasons, runnable=bool(against and not flaws)
        )
    status = compare(found.interval, cell.value, MARGINS[kind(cell)].width)
    remarks = caveats.remarks(cell, published)
    if others:
        remarks += (f"{others} more such runs, with other options, are not shown",)
    return Verdict(cell, asked, status, found, (), remarks)


def _attempts(runs: Sequence[Result]) -> tuple[str, ...]:
    """What became of runs that have no value for a cell."""
    return tuple(
        dict.fromkeys(
            "a result is there, without this value"
            if run.status == "ok"
            else f"a run of it {'failed' if run.status == 'failed' else 'was skipped'}: "
            + " ".join(str(run.reason).split())
            for run in runs
        )
    )


def _choose(
    cell: Cell, asked: Setting, rows: Sequence[tuple[Result, Row]]
) -> tuple[tuple[str, ...], Measured, int]:
    """The way of running that comes nearest to the paper's, never by its values.

    Returns:
        Why it does not compare, what it comes to, and how many others compare as well.
    """
    groups: dict[str, list[tuple[Result, Row]]] = {}
    for result, row in rows:
        groups.setdefault(variant(result, row), []).append((result, row))
    ways = [(_all_deviations(cell, asked, group), measured(group)) for group in groups.values()]
    presets: dict[str, int] = {name: rank for rank, name in enumerate(PRESETS)}
    ways.sort(key=lambda way: (-presets.get(way[1].preset, -1), len(way[0]), -len(way[1].seeds)))
    against, found = ways[0]
    others = sum(not reasons for reasons, _ in ways[1:])
    return against, found, others


def _all_deviations(
    cell: Cell, asked: Setting, group: Sequence[tuple[Result, Row]]
) -> tuple[str, ...]:
    said = (reason for result, _ in group for reason in deviations(cell, asked, result))
    return tuple(dict.fromkeys(said))
