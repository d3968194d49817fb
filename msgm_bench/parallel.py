"""Runs of a grid in an executor's workers."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from msgm_bench.api import Executor, Resources, Result
from msgm_bench.cache.cache import Cache
from msgm_bench.errors import OptionError, UsageError
from msgm_bench.execution import run_named_stage, run_or_fail, store_failed, stored_result
from msgm_bench.experiment import shared_stages
from msgm_bench.experiment.graph import build_graph
from msgm_bench.experiment.grid import Job, Schedule, plan_jobs
from msgm_bench.experiment.grid_folder import grid_folder
from msgm_bench.experiment.plan import Plan
from msgm_bench.experiment.resolved_spec import ResolvedSpec
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.experiment.trackers import Choice, active_trackers
from msgm_bench.experiment.worker import Worker
from msgm_bench.experiment.worker_events import Listener, WorkerEvents
from msgm_bench.registry import registry

EVENTS, POOL = "events", "pool"


def check_workers(executor: Executor, specs: Sequence[RunSpec]) -> None:
    """Refuse an executor beside a launcher's processes, and one GPU for all its workers.

    Raises:
        UsageError: There are several processes, or the device of a request is ``cuda:N``.
    """
    shared_stages.refuse(executor)
    for device in {spec.device for spec in specs}:
        if device.startswith("cuda:"):
            raise OptionError(
                f"device {device!r} with an executor",
                "auto, cpu, cuda: workers see GPUs of their own",
                "an option of the executor chooses GPUs, such as -x local.gpus=1",
            )


def run_in_workers(
    executor: Executor,
    plans: Sequence[Plan],
    out: Path,
    trackers: tuple[Choice, ...],
    listener: Listener,
) -> list[Result]:
    """The results of the plans; those that are stored, cached or skipped are answered here.

    Raises:
        UsageError: The executor has not what its options ask for; nothing was trained.
    """
    grid = _Grid(executor.name, {plan.spec.folder: plan for plan in plans}, out, trackers)
    with grid_folder(out) as folder, contextlib.ExitStack() as stack:
        for name in (EVENTS, POOL):
            (folder / name).mkdir()
        worker = Worker(run_or_fail, run_named_stage, out, folder / EVENTS, trackers)
        pool = stack.enter_context(_workers(executor, grid, folder / POOL))
        events = stack.enter_context(WorkerEvents(folder / EVENTS, listener))
        schedule = Schedule(pool, worker, grid.jobs)
        schedule.submit_ready()
        grid.answer()
        for job, outcome in schedule.outcomes():
            grid.settle(job, outcome, events)
    return [grid.results[plan.spec.folder] for plan in plans]


class _Grid:
    """Runs by the names of their folders, the jobs that they leave to workers, and their results.

    Args:
        executor: Name of the executor.
        plans: The runs.
        out: The folder for results.
        trackers: Name and options of trackers.
    """

    def __init__(
        self, executor: str, plans: dict[str, Plan], out: Path, trackers: tuple[Choice, ...]
    ) -> None:
        self.executor, self.plans, self.out, self.trackers = executor, plans, out, trackers
        self.results: dict[str, Result] = {}
        self._stored = {name: self._find_stored(plan) for name, plan in plans.items()}
        self._cache = Cache()  # leases what runs share until all are done
        open_ = [plan for name, plan in plans.items() if self._stored[name] is None]
        self.jobs = plan_jobs(open_, self._cache)

    def answer(self) -> None:
        """Answer the runs that leave nothing to compute."""
        for name, plan in self.plans.items():
            stored = self._stored[name]
            if name in self.jobs:
                continue
            with active_trackers(self.trackers):
                if stored is None:
                    self.results[name] = run_or_fail(plan, self.out)
                else:
                    self.results[name] = self._announce(plan, stored)

    def settle(self, job: Job, outcome: Any, events: WorkerEvents) -> None:
        """Take a job's outcome: a run has a result, whatever became of its worker."""
        if job.stage is not None:
            self._cache.find(job.name)
            events.end(job.name)
            return
        plan, folder = self.plans[job.name], str(self.out / job.name)
        result = outcome if isinstance(outcome, Result) else self._find_stored(plan)
        events.end(job.name, result, folder)
        self.results[job.name] = result or self._fail(plan, outcome)

    def _fail(self, plan: Plan, outcome: Any) -> Result:
        """The failed result of a run whose worker could not store one."""
        none = f"executor {self.executor!r} returned no result of this run"
        with active_trackers(self.trackers):
            return store_failed(plan, self.out, outcome if isinstance(outcome, str) else none)

    def _find_stored(self, plan: Plan) -> Result | None:
        """The result that the run folder has of the very stages of a plan."""
        if plan.skipped is not None:
            return None
        return stored_result(self.out / plan.spec.folder, build_graph(plan))

    def _announce(self, plan: Plan, stored: Result) -> Result:
        """Announce a run whose result was stored before."""
        hook, folder = registry().manager.hook, str(self.out / plan.spec.folder)
        hook.run_started(spec=ResolvedSpec.of(plan).model_dump(), folder=folder)
        hook.run_ended(result=stored, folder=folder)
        return stored


class _NoWorkers(concurrent.futures.Executor):
    """A pool that could not be opened: every job fails with its error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def submit(
        self, function: Callable[..., Any], /, *arguments: Any, **options: Any
    ) -> concurrent.futures.Future[Any]:
        """Raise the error."""
        raise self.error


@contextlib.contextmanager
def _workers(
    executor: Executor, grid: _Grid, folder: Path
) -> Iterator[concurrent.futures.Executor]:
    """The pool for a grid, whose workers end when the block is left with an exception.

    Raises:
        UsageError: The executor has not what its options ask for.
    """
    specs = [job.spec for job in grid.jobs.values()]
    threads = max((spec.threads or 1 for spec in specs), default=1)
    resources = Resources(threads, any(spec.device != "cpu" for spec in specs), folder)
    pool: concurrent.futures.Executor
    try:
        pool = executor.pool(resources) if specs else _NoWorkers(RuntimeError("no jobs"))
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - the failure of every job, with its reason
        pool = _NoWorkers(error)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown(wait=True)
