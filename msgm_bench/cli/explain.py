"""``msgm-bench explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from msgm_bench.cli.terminal import echo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msgm_bench.api import Result, Row
    from msgm_bench.explanation import Explanation, Source, Step


@click.command()
@click.argument("run", type=click.Path(exists=True))
@click.argument("metric", required=False)
def command(run: str, metric: str | None) -> None:
    """Explain how a number came about, step by step.

    RUN is a run folder, a result.json, a file of a board's results or an archive of `msgm-bench
    submit`; METRIC is the name of a row, such as ur or nll. Without it a line for each step and
    all values. Hashes are cut to twelve letters.
    """
    from msgm_bench.explanation import explain, read_source
    from msgm_bench.quarantine import stdout_to_stderr
    from msgm_bench.storage import single_line

    with stdout_to_stderr():
        source = read_source(Path(run))
        explanation = explain(source.result, metric)
    _print_heading(source)
    if metric is None:
        _print_overview(explanation)
    else:
        _print_steps(explanation)
    if explanation.command:
        echo("\nThe command that repeats all of it; stages in the cache are not computed again:\n")
        echo(f"    {single_line(explanation.command)}")
    else:
        echo("\nIts record states no command of this program that makes such a run.")


def _print_heading(source: Source) -> None:
    """Print what was run, and how far a submission is to be believed."""
    from msgm_bench.storage import single_line

    echo(single_line(f"{source.name}: {run_text(source.result)}"))
    if source.is_submission:
        echo("claimed by whoever packed it; `msgm-bench submission check` recomputes what it can")


def run_text(result: Result) -> str:
    """A run in a line."""
    from msgm_bench.api.class_names import comma_list

    spec = result.spec
    what = f"{spec.method} on {spec.dataset}, {spec.backbone}, without {comma_list(spec.forget)}"
    return f"{what}; {spec.regime}, preset {spec.preset}, seed {spec.seed}"


def _print_overview(explanation: Explanation) -> None:
    """Print a line for each step, and all values."""
    from msgm_bench.cli.row_labels import RowLabels, print_missing
    from msgm_bench.cli.tables import print_grid, print_table

    measured = (step for part in explanation.measurements for step in part.steps[:-1])
    steps = dict.fromkeys((*explanation.steps, *measured))  # the last one is each metric's own
    echo()
    print_grid((step.title, step.summary) for step in steps)
    rows = [row for measurement in explanation.measurements for row in measurement.rows]
    labels = RowLabels(rows)
    lines = [(row.task, labels.value(row), *value_texts(row), f"{row.n:,}") for row in rows]
    echo()
    print_table(("task", "value", "", "95 % interval", "n"), lines)
    print_missing((labels.whole(row), row.reason or "") for row in rows if row.value is None)
    echo("explain RUN METRIC has every step of one of them, with its hashes.")


def _print_steps(explanation: Explanation) -> None:
    """Print all steps with their facts, those that several measurements share once."""
    from msgm_bench.cli.tables import print_grid

    number = _print_numbered(explanation.steps, 1)
    for measurement in explanation.measurements:
        number = _print_numbered(measurement.steps, number)
        echo(f"\n{number}. Value")
        print_grid((f"{row.metric}, {row.split}", row_text(row)) for row in measurement.rows)
        number += 1


def _print_numbered(steps: Sequence[Step], number: int) -> int:
    """Print steps from ``number`` on; the number after the last."""
    from msgm_bench.cli.tables import print_grid
    from msgm_bench.storage import single_line

    for step in steps:
        echo()
        echo(single_line(f"{number}. {step.title}: {step.summary}"))
        print_grid(step.facts)
        number += 1
    return number


def value_texts(row: Row | None) -> tuple[str, str]:
    """Value with its unit, and the interval."""
    if row is None:
        return "", ""
    if row.value is None:
        return "none", ""
    unit = "" if row.unit == "1" else f" {row.unit}"
    ends = "" if row.low is None or row.high is None else f"{row.low:.4g} to {row.high:.4g}"
    return f"{row.value:.4g}{unit}", ends


def row_text(row: Row) -> str:
    """Value, interval, n, direction, and what stands against it."""
    value, ends = value_texts(row)
    better = {"up": ", higher is better", "down": ", lower is better"}.get(row.direction, "")
    parts = [value + (f", 95 % interval {ends}" if ends else "") + f", n = {row.n:,}{better}"]
    parts += [text for text in (row.reason, row.stamp) if text]
    return "; ".join(parts)
