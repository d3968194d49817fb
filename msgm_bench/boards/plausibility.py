"""Values that cannot be: what the rows of an honest result fulfil.

Rules for any row are here: an interval holds its value (a percentile bootstrap excepted), a value
in per cent is within 0 and 100, and none is of no item. What else follows from how a metric
computes, its ``violations`` know; of a metric that is not installed nobody does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from msgm_bench.api import MeasuredRows, Metric
from msgm_bench.api.result import Result, Row
from msgm_bench.registry import registry

TOLERANCE = 1e-6
MOST_TEXT = 10_000  # characters of a remark


def violation(result: Result) -> str | None:
    """The first reason why the values of ``result`` cannot be, or None."""
    return next(_violations(result), None)


def _violations(result: Result) -> Iterator[str]:
    for row in result.metrics:
        reason = _row_violation(row, result.protocols[row.protocol].settings)
        if reason is not None:
            yield f"{row.metric} on {row.split} by {row.protocol}: {reason}"
    for protocol, measured in measured_rows(result):
        for metric in metrics():
            if protocol.startswith(metric.protocols):
                yield from (f"{protocol}: {reason}" for reason in metric.violations(measured))


def metrics() -> list[type[Metric]]:
    """All installed metrics."""
    return [cast(type[Metric], entry.cls) for entry in registry().entries("metrics")]


def measured_rows(result: Result) -> Iterator[tuple[str, MeasuredRows]]:
    """The rows of a result by protocol and task."""
    groups: dict[tuple[str, str], dict[str, dict[str, Row]]] = {}
    for row in result.metrics:
        splits = groups.setdefault((row.task, row.protocol), {})
        splits.setdefault(row.split, {})[row.metric] = row
    judge = result.provenance.get("judge", {})
    for (_, protocol), splits in groups.items():
        yield protocol, MeasuredRows(splits, result.protocols[protocol].settings, judge)


def _row_violation(row: Row, settings: Mapping[str, Any]) -> str | None:
    low, value, high = row.low, row.value, row.high
    longest = max(len(row.reason or ""), len(row.stamp or ""))
    if longest > MOST_TEXT:
        return f"its remark has {longest} characters, {MOST_TEXT} at most"
    if low is not None and high is not None and low > high:
        return f"its interval ends at {high:g} and begins at {low:g}"
    if value is None:
        return None
    if row.n == 0:
        return f"{value:g} of no item"
    if "bootstrap" not in str(settings.get("interval", "")):
        slack = TOLERANCE * max(1.0, abs(value))
        if (low is not None and value < low - slack) or (high is not None and value > high + slack):
            return f"{value:g} is outside its interval"
    numbers = [x for x in (low, value, high) if x is not None]
    if row.unit == "%" and not all(-TOLERANCE <= x <= 100 + TOLERANCE for x in numbers):
        return f"{value:g} % or its interval is not within 0 and 100"
    return None
