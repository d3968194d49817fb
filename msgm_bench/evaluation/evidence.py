"""Evidence of a model's rows, and rows that are compared with what follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgm_bench.api import Evidence, Metric, Row

EXACT = ("unit", "n", "direction")


def differences(metric: type[Metric], evidence: Evidence, rows: Sequence[Row]) -> Iterator[str]:
    """What ``rows`` of one task and protocol have otherwise than ``metric`` recomputes.

    Raises:
        MsgmBenchError: No rows follow from the evidence.
    """
    expected = {row.key: row for row in metric.recompute(evidence)}
    actual = {row.key: row for row in rows}
    for key in sorted(expected.keys() - actual.keys()):
        yield f"it lacks {_name(key)}, which follows from the evidence"
    for key in sorted(actual.keys() - expected.keys()):
        yield f"{_name(key)} does not follow from the evidence"
    tolerance = metric.tolerance(evidence)
    for key in sorted(expected.keys() & actual.keys()):
        yield from _row_differences(actual[key], expected[key], tolerance)


def is_within(value: float | None, expected: float | None, tolerance: float) -> bool:
    """|value - expected| <= tolerance max(1, |expected|); None equals None alone."""
    if value is None or expected is None:
        return value is expected
    return abs(value - expected) <= tolerance * max(1.0, abs(expected))


def _row_differences(row: Row, expected: Row, tolerance: float) -> Iterator[str]:
    name = _name(row.key)
    for field in EXACT:
        if getattr(row, field) != getattr(expected, field):
            yield (
                f"{name} has {field} {getattr(row, field)!r}, "
                f"and {getattr(expected, field)!r} is recomputed"
            )
    ends: Mapping[str, str] = {"value": "is", "low": "begins at", "high": "ends at"}
    for field, verb in ends.items():
        ours, theirs = getattr(row, field), getattr(expected, field)
        if not is_within(ours, theirs, tolerance):
            yield f"{name} {verb} {_number(ours)}, and {_number(theirs)} is recomputed"


def _name(key: tuple[str, str, str, str]) -> str:
    _, metric, split, protocol = key
    return f"{metric} on {split} by {protocol}"


def _number(value: float | None) -> str:
    return "null" if value is None else f"{value:.8g}"
