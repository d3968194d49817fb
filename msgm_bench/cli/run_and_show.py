"""Runs of the command line: progress while they run, then a ranked table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgm_bench.api import Executor, Result
from msgm_bench.cli.exit_codes import ExitCode
from msgm_bench.cli.progress import show_progress
from msgm_bench.cli.tables import console, print_comparison, print_table
from msgm_bench.cli.terminal import echo, echo_json
from msgm_bench.errors import StorageError, UsageError, shorten
from msgm_bench.experiment.spec import RunSpec, parse_spec
from msgm_bench.experiment.stored_result import RESULT
from msgm_bench.experiment.trackers import Choice, check_trackers
from msgm_bench.launch import launched
from msgm_bench.quarantine import stdout_to_stderr
from msgm_bench.registry import registry
from msgm_bench.runner import dry_run_grid, run_grid
from msgm_bench.storage import read_yaml, single_line

COMPARISON = "comparison.png"


def read_spec(path: Path) -> RunSpec:
    """The request in a ``spec.yaml``.

    Raises:
        UsageError: The file is no YAML mapping or has unknown fields.
    """
    try:
        values = read_yaml(path)
    except StorageError as error:
        raise UsageError(error.what, error.allowed, error.hint) from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds {type(values).__name__}", "a mapping such as spec.yaml")
    return parse_spec(values)


def create_helpers(
    executor: str | None, trackers: Sequence[str], options: Mapping[str, Mapping[str, Any]]
) -> tuple[Executor | None, list[Choice]]:
    """The executor, and the trackers with their options.

    Raises:
        UsageError: One of them is unknown, or has no such option.
    """
    _check_owners(options, [executor, *trackers], "--executor or --track")
    choices = [(name, options.get(name, {})) for name in trackers]
    if executor is None:
        check_trackers(choices)
        return None, choices
    instance = registry().create("executors", executor, options.get(executor))
    check_trackers(choices)
    return instance, choices


def create_executor(name: str | None, options: Mapping[str, Mapping[str, Any]]) -> Executor | None:
    """The executor of a command that has no trackers.

    Raises:
        UsageError: It is unknown, or has no such option.
    """
    _check_owners(options, [name], "--executor")
    return None if name is None else registry().create("executors", name, options.get(name))


def _check_owners(options: Mapping[str, Any], names: Sequence[str | None], choosers: str) -> None:
    """Refuse options of plugins that are not in use."""
    if others := set(options) - set(names):
        raise UsageError(
            f"-x for {', '.join(map(shorten, sorted(others)))}",
            ", ".join(filter(None, names)) or f"none without {choosers}",
        )


def run_and_show(
    specs: Sequence[RunSpec],
    out: Path,
    as_json: bool,
    executor: Executor | None = None,
    trackers: Sequence[Choice] = (),
    allow_skipped_tasks: bool = False,
) -> int:
    """Run a grid and print its results; the exit code.

    The output of plugins goes to stderr, so that stdout holds the results alone. Of the processes
    of a launcher the first one prints.
    """
    with stdout_to_stderr(), show_progress(len(specs)) as display:
        results = run_grid(
            *(specs, out, executor, trackers, display.worker),
            allow_skipped_tasks=allow_skipped_tasks,
        )
    if launched().leads:
        _show(specs, results, out, as_json)
    states = {result.status for result in results}
    if states == {"skipped"}:
        return ExitCode.USAGE
    return ExitCode.FAILED if "failed" in states else ExitCode.OK


def _show(specs: Sequence[RunSpec], results: Sequence[Result], out: Path, as_json: bool) -> None:
    """Print the results, and draw them side by side."""
    if as_json:
        documents = [json.loads(result.to_json()) for result in results]
        echo_json(documents[0] if len(documents) == 1 else documents)
    else:
        print_results(specs, results, out)
    for figure in _draw_comparisons(specs, out):
        echo(f"Side by side: {figure}", err=as_json)


def print_results(specs: Sequence[RunSpec], results: Sequence[Result], out: Path) -> None:
    """Print the ranked table, failed and skipped runs with their reasons, and the run folders."""
    successes = [result for result in results if result.status == "ok"]
    if successes:
        print_comparison(successes)
    for spec, result in zip(specs, results, strict=True):
        if result.status != "ok":
            name = f"{spec.method} (seed {spec.seed}, {spec.backbone})"
            line = f"{result.status}: {name}: {result.reason}"
            console().print(line, style="bold", soft_wrap=True)
    files = sorted({str(out / spec.folder / RESULT) for spec in specs})
    console().print("Results:", style="bold")
    for file in files:
        echo(f"  {file}")


def _draw_comparisons(specs: Sequence[RunSpec], out: Path) -> list[Path]:
    """Figures of several methods side by side; none for a single run."""
    if len(specs) < 2:
        return []
    from msgm_bench.boards.figure import draw

    return draw([out / spec.folder for spec in specs], out / COMPARISON)


def print_plan(specs: Sequence[RunSpec], allow_skipped_tasks: bool = False) -> int:
    """Print each stage of a grid once, with its state, and what is skipped and why."""
    rows: dict[str, tuple[str, str, str]] = {}
    notes: dict[str, None] = {}
    for preview in dry_run_grid(specs, allow_skipped_tasks=allow_skipped_tasks):
        for name, stage, cached in preview.stages:
            state = "cached" if cached else "to do"
            rows.setdefault(stage.key, (name, state, stage.key[:12]))
        if preview.base:
            notes[f"base: {preview.base}; not trained here"] = None
        for skip in preview.skipped:
            notes[f"skipped: {skip.name}: {skip.reason}"] = None
        for skip in preview.null_metrics:
            notes[f"without a value: {skip.name}: {skip.reason}"] = None
    title = "1 run" if len(specs) == 1 else f"{len(specs)} runs"
    print_table(("stage", "state", "key"), list(rows.values()), title)
    for note in notes:
        console().print(single_line(note), soft_wrap=True)  # addresses stay whole
    return ExitCode.OK
