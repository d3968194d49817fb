"""Run an experiment or a grid of them: every stage once, the result last, nothing lost."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msgm_bench.api import Executor, Result
from msgm_bench.cache.cache import Cache
from msgm_bench.cache.stage import Stage
from msgm_bench.execution import run_or_fail, run_plan
from msgm_bench.experiment import shared_stages
from msgm_bench.experiment.evaluation_plan import null_metrics
from msgm_bench.experiment.graph import build_graph
from msgm_bench.experiment.grid import worker_specs
from msgm_bench.experiment.plan import Plan, resolve
from msgm_bench.experiment.requested_tasks import check_requested_tasks
from msgm_bench.experiment.skipped import Skipped
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.experiment.trackers import Choice, active_trackers, check_trackers
from msgm_bench.experiment.worker_events import Listener
from msgm_bench.parallel import check_workers, run_in_workers
from msgm_bench.storage import storage_errors


@shared_stages.in_all_processes
def run(spec: RunSpec, out: str | Path = "runs", *, allow_skipped_tasks: bool = False) -> Result:
    """Train, unlearn, score; go on where an earlier attempt stopped.

    Args:
        spec: The request.
        out: Folder in which the run folder is made.
        allow_skipped_tasks: As of ``run_grid``.

    Returns:
        The content of ``result.json``.

    Raises:
        UsageError: The request is wrong; nothing was trained.
        MsgmBenchError: The run failed; the stages that are done stay in the cache.
    """
    (plan,) = _resolve_all([spec], allow_skipped_tasks)
    return run_plan(plan, output_folder(out))


@shared_stages.in_all_processes
def run_grid(
    specs: Sequence[RunSpec],
    out: str | Path = "runs",
    executor: Executor | None = None,
    trackers: Sequence[Choice] = (),
    listener: Listener = contextlib.nullcontext,
    *,
    allow_skipped_tasks: bool = False,
) -> list[Result]:
    """Run several requests; one that fails leaves a failed result and the others go on.

    Args:
        specs: The requests. With an executor, those that state no number of threads have one.
        out: Folder in which the run folders are made.
        executor: Its workers run them; one after the other without it. Stages that several runs
            need come first, and runs that are cached or skipped are answered here.
        trackers: Name and options of trackers, which receive the events of workers, too.
        listener: Makes an object with life-cycle hooks for each job of a worker.
        allow_skipped_tasks: Whether a requested task that every run skips is a warning and no
            error, as where stored requests are run again.

    Raises:
        UsageError: Any of the requests is wrong, or all of them skip a task that they request;
            nothing was trained.
    """
    check_trackers(trackers)
    if executor is not None:
        specs = worker_specs(specs)
        check_workers(executor, specs)
    plans = _resolve_all(specs, allow_skipped_tasks)
    folder = output_folder(out)
    if executor is not None:
        return run_in_workers(executor, plans, folder, tuple(trackers), listener)
    with active_trackers(trackers):
        return [run_or_fail(plan, folder) for plan in plans]


@dataclass(frozen=True)
class Preview:
    """The work of a run that has not started.

    Attributes:
        stages: Name of each stage, the stage, and whether it is cached. A drawing from the control
            or from the base is ``control of TASK`` or ``base of TASK``.
        skipped: Tasks and metrics that do not apply, and why.
        null_metrics: Metrics whose values will be null, and why.
        base: The base checkpoint; empty where the base model is trained here.
    """

    stages: Sequence[tuple[str, Stage, bool]]
    skipped: Sequence[Skipped]
    null_metrics: Sequence[Skipped]
    base: str = ""


def dry_run(spec: RunSpec) -> Preview:
    """Plan a run without starting it; trains nothing and downloads nothing.

    A run whose method is skipped has no stages.

    Raises:
        UsageError: The request is wrong.
        StorageError: Data or a base model are not on this machine.
    """
    return dry_run_grid([spec])[0]


def dry_run_grid(specs: Sequence[RunSpec], *, allow_skipped_tasks: bool = False) -> list[Preview]:
    """Plan a grid as ``dry_run`` plans a run.

    Args:
        specs: The requests.
        allow_skipped_tasks: As of ``run_grid``.

    Raises:
        UsageError: As ``run_grid``.
        StorageError: Data or a base model are not on this machine.
    """
    cache = Cache()
    return [_preview(plan, cache) for plan in _resolve_all(specs, allow_skipped_tasks, False)]


def _resolve_all(
    specs: Sequence[RunSpec], allow_skipped_tasks: bool, download: bool = True
) -> list[Plan]:
    """The plans of a grid, whose requested tasks are checked."""
    plans = [resolve(spec, download) for spec in specs]
    check_requested_tasks(plans, allow_skipped_tasks)
    return plans


def _preview(plan: Plan, cache: Cache) -> Preview:
    if plan.skipped is not None:
        return Preview((), (plan.skipped,), ())
    graph, evaluation = build_graph(plan), plan.evaluation
    titles = graph.titles
    return Preview(
        [(titles[s.key], s, cache.find(s.key) is not None) for s in graph.stages.values()],
        evaluation.skipped,
        null_metrics(evaluation.metrics, evaluation.judge),
        "" if plan.base is None else str(plan.base),
    )


def output_folder(out: str | Path) -> Path:
    """The folder for results, made and tried before anything is trained.

    Raises:
        StorageError: It cannot be made or written.
    """
    folder = Path(out).expanduser().absolute()
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".msgm-bench-probe"
        probe.touch()
        probe.unlink()
    return folder
