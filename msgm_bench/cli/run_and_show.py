"""Run cells in front of a person: progress, then a ranked table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgm_bench.api import Executor, Result
from msgm_bench.cli.progress import progress
from msgm_bench.cli.tables import comparison, console, grid
from msgm_bench.cli.terminal import say, say_json
from msgm_bench.errors import StorageError, UsageError
from msgm_bench.experiment.spec import RunSpec, parse_spec
from msgm_bench.experiment.stored_result import RESULT
from msgm_bench.experiment.trackers import Choice, check_trackers
from msgm_bench.quarantine import stdout_to_stderr
from msgm_bench.registry import registry
from msgm_bench.runner import dry_run, run_grid
from msgm_bench.storage import read_yaml, single_line

OK, FAILED, REFUSED = 0, 1, 2
COMPARISON = "comparison.png"


def read_spec(path: Path) -> RunSpec:
    """A ``spec.yaml``.

    Raises:
        UsageError: The file is no YAML mapping or names unknown fields.
    """
    try:
        values = read_yaml(path)
    except StorageError as error:
        raise UsageError(error.what, error.allowed, error.hint) from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds {type(values).__name__}", "a mapping such as spec.yaml")
    return parse_spec(values)


def helpers(
    executor: str | None, trackers: Sequence[str], options: Mapping[str, Mapping[str, Any]]
) -> tuple[Executor | None, list[Choice]]:
    """The executor, and the trackers with their options.

    Raises:
        UsageError: One of them is unknown, or has no such option.
    """
    if others := set(options) - {executor, *trackers}:
        raise UsageError(
            f"-x for {', '.join(sorted(others))}",
            ", ".join(filter(None, [executor, *trackers])) or "none without --executor or --track",
        )
    chosen = None
    if executor is not None:
        chosen = registry().create("executors", executor, options.get(executor))
    tracked = [(name, options.get(name, {})) for name in trackers]
    check_trackers(tracked)
    return chosen, tracked


def run_cells(
    specs: Sequence[RunSpec],
    out: Path,
    as_json: bool,
    executor: Executor | None = None,
    trackers: Sequence[Choice] = (),
) -> int:
    """Run, show, and say with the exit code whether all went well.

    What plugins print lands on stderr, so that the results are all that stdout holds.
    """
    with stdout_to_stderr(), progress(len(specs)):
        results = run_grid(specs, out, executor, trackers)
    if as_json:
        documents = [json.loads(result.to_json()) for result in results]
        say_json(documents[0] if len(documents) == 1 else documents)
    else:
        show_results(specs, results, out)
    for figure in _figures(specs, out):
        say(f"Side by side: {figure}", err=as_json)
    states = {result.status for result in results}
    if states == {"skipped"}:
        return REFUSED
    return FAILED if "failed" in states else OK


def show_results(specs: Sequence[RunSpec], results: Sequence[Result], out: Path) -> None:
    """The ranked table, what did not work, and where everything is."""
    done = [result for result in results if result.status == "ok"]
    if done:
        comparison(done)
    for spec, result in zip(specs, results, strict=True):
        if result.status != "ok":
            name = f"{spec.method} (seed {spec.seed}, {spec.backbone})"
            line = f"{result.status}: {name}: {result.reason}"
            console().print(line, style="bold", soft_wrap=True)
    places = sorted({str(out / spec.folder / RESULT) for spec in specs})
    console().print("Results:", style="bold")
    for place in places:
        say(f"  {place}")


def _figures(specs: Sequence[RunSpec], out: Path) -> list[Path]:
    """Methods side by side, where there are several."""
    if len(specs) < 2:
        return []
    from msgm_bench.boards.figure import draw

    return draw([out / spec.folder for spec in specs], out / COMPARISON)


def show_plan(specs: Sequence[RunSpec]) -> int:
    """Every stage of every cell, once, and whether it is cached; what is left out, and why."""
    seen: dict[str, tuple[str, str, str]] = {}
    missing: dict[str, None] = {}
    for spec in specs:
        preview = dry_run(spec)
        for stage, cached in preview.stages:
            state = "cached" if cached else "to do"
            seen.setdefault(stage.key, (stage.name, state, stage.key[:12]))
        if preview.base:
            missing[f"base: {preview.base}; not trained here"] = None
        for skip in preview.skipped:
            missing[f"left out: {skip.name}: {skip.reason}"] = None
        for skip in preview.null_metrics:
            missing[f"without a value: {skip.name}: {skip.reason}"] = None
    grid(("stage", "state", "key"), list(seen.values()), f"{len(specs)} cells")
    for line in missing:
        console().print(single_line(line), soft_wrap=True)  # addresses stay whole
    return OK
