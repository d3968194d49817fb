"""How the numbers of a result came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msgm_bench.api import Result, Row
from msgm_bench.boards.separation import families
from msgm_bench.errors import UnknownNameError, UsageError
from msgm_bench.explanation.measurement_steps import measurement_steps
from msgm_bench.explanation.plugins import metric_class
from msgm_bench.explanation.stages import stages_of
from msgm_bench.explanation.step import Step
from msgm_bench.explanation.training_steps import training_steps
from msgm_bench.report.stated_command import stated_command


@dataclass(frozen=True)
class Measurement:
    """Rows of one task and protocol, and how they were measured.

    Attributes:
        rows: The rows.
        steps: From the model to them.
    """

    rows: tuple[Row, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Explanation:
    """How the numbers of a result came about.

    Attributes:
        steps: From the data to the model, which all its numbers share.
        measurements: From the model to the numbers.
        command: The command that repeats all of it; empty where it is unknown.
    """

    steps: tuple[Step, ...]
    measurements: tuple[Measurement, ...]
    command: str


def explain(result: Result, metric: str | None = None, cache: Path | None = None) -> Explanation:
    """The steps that led to the rows of ``metric``, or to all of them.

    Args:
        result: A result.
        metric: Name of rows (their ``metric``, in any case), or of an installed metric; None: all.
        cache: The cache in which the folders of its stages are looked for; this user's by default.

    Raises:
        UsageError: The result has no rows, since its run failed or was skipped.
        UnknownNameError: No row is of that metric.
    """
    if not result.metrics:
        reason = f": {result.reason}" if result.reason else ""
        raise UsageError(f"the run is {result.status} and has no values{reason}", "a run with rows")
    stages = stages_of(result, cache)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in _rows(result, metric):
        groups.setdefault((row.task, row.protocol), []).append(row)
    measurements = (
        Measurement(tuple(rows), tuple(measurement_steps(result, rows[0], stages)))
        for rows in groups.values()
    )
    return Explanation(
        tuple(training_steps(result, stages)), tuple(measurements), stated_command(result)
    )


def _rows(result: Result, metric: str | None) -> Sequence[Row]:
    """The rows whose metric has this name, else those whose installed metric has it."""
    if metric is None:
        return result.metrics
    named = [row for row in result.metrics if row.metric.casefold() == metric.casefold()]
    if not named:
        owners = ((row, metric_class(row)) for row in result.metrics)
        named = [row for row, cls in owners if cls is not None and cls.name == metric]
    if not named:
        known = families(metric, {row.metric for row in result.metrics})
        raise UnknownNameError("metric", metric, known)
    return named
