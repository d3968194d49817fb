"""Assessment: whether a measured value reproduces a published one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from msgm_bench import PRESETS, Interval, Result, Row
from msgm_paper import caveats
from msgm_paper.comparability import deviations
from msgm_paper.mapping import Setting, kind, quantity, setting
from msgm_paper.margins import MARGINS
from msgm_paper.results import Measurement, measurement, variant
from msgm_paper.tables import PublishedValue


class Status(StrEnum):
    """Outcome of a comparison with a published value."""

    REPRODUCED = "reproduced"
    DIFFERS = "differs"
    INCONCLUSIVE = "inconclusive"
    NOT_COMPARABLE = "not comparable"
    NOT_RUN = "not yet run"


@dataclass(frozen=True)
class Assessment:
    """A published value, the measured one, and the outcome.

    Attributes:
        entry: The published value.
        setting: The run of the paper.
        status: The outcome.
        measured: The measured value, or None.
        reasons: Reasons why it is not comparable, or not measured yet.
        remarks: Remarks on a comparison.
        runnable: Whether a run at the paper's budgets would decide.
    """

    entry: PublishedValue
    setting: Setting
    status: Status
    measured: Measurement | None = None
    reasons: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    runnable: bool = False


def compare(interval: Interval, reference: float, margin: float) -> Status:
    """Reproduced where the interval lies wholly within ``reference ± margin``.

    It differs where the interval lies wholly outside; everything else, such as a wide interval,
    is inconclusive.
    """
    low, high = reference - margin, reference + margin
    if low <= interval.low and interval.high <= high:
        return Status.REPRODUCED
    if interval.high < low or high < interval.low:
        return Status.DIFFERS
    return Status.INCONCLUSIVE


def assess(
    entry: PublishedValue, results: Sequence[Result], paper: Sequence[PublishedValue]
) -> Assessment:
    """Compare a published value with all results; ``paper`` are all values of the paper."""
    target, row_of = setting(entry), quantity(entry).row
    runs = [result for result in results if target.matches(result.spec)]
    rows = [(r, row) for r in runs if r.status == "ok" and (row := row_of(r)) is not None]
    flaws = caveats.objections(entry)
    if not rows:
        status = Status.NOT_COMPARABLE if flaws else Status.NOT_RUN
        return Assessment(entry, target, status, None, flaws or _attempts(runs), runnable=not flaws)
    differences, measured, others = _choose(entry, target, rows)
    reasons = flaws + differences
    if measured.interval is None:
        reasons += (f"no value: {measured.reason}",)
    if reasons or measured.interval is None:
        runnable = bool(differences and not flaws)
        status = Status.NOT_COMPARABLE
        return Assessment(entry, target, status, measured, reasons, runnable=runnable)
    status = compare(measured.interval, entry.value, MARGINS[kind(entry)].width)
    remarks = caveats.remarks(entry, paper)
    if others:
        remarks += (f"{others} more such runs, with other options, are not shown",)
    return Assessment(entry, target, status, measured, (), remarks)


def _attempts(runs: Sequence[Result]) -> tuple[str, ...]:
    """Outcomes of runs that have no such value."""
    return tuple(
        dict.fromkeys(
            "there is a result without this value"
            if run.status == "ok"
            else f"a run {'failed' if run.status == 'failed' else 'was skipped'}: "
            + " ".join(str(run.reason).split())
            for run in runs
        )
    )


def _choose(
    entry: PublishedValue, target: Setting, rows: Sequence[tuple[Result, Row]]
) -> tuple[tuple[str, ...], Measurement, int]:
    """The variant that is nearest to the paper's, by its options and never by its values.

    Returns:
        Its deviations, its value, and the number of others without deviations.
    """
    groups: dict[str, list[tuple[Result, Row]]] = {}
    for result, row in rows:
        groups.setdefault(variant(result, row), []).append((result, row))
    variants = [
        (_all_deviations(entry, target, group), measurement(group)) for group in groups.values()
    ]
    presets: dict[str, int] = {name: rank for rank, name in enumerate(PRESETS)}
    variants.sort(key=lambda v: (-presets.get(v[1].preset, -1), len(v[0]), -len(v[1].seeds)))
    differences, measured = variants[0]
    return differences, measured, sum(not others for others, _ in variants[1:])


def _all_deviations(
    entry: PublishedValue, target: Setting, group: Sequence[tuple[Result, Row]]
) -> tuple[str, ...]:
    reasons = (reason for result, _ in group for reason in deviations(entry, target, result))
    return tuple(dict.fromkeys(reasons))
