"""Jobs of a grid for a pool of workers: the stages that runs share, then the runs."""

from __future__ import annotations

import concurrent.futures
import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgm_bench import quarantine
from msgm_bench.cache.cache import Cache
from msgm_bench.cache.stage import Stage
from msgm_bench.errors import MsgmBenchError
from msgm_bench.experiment.graph import build_graph
from msgm_bench.experiment.plan import Plan
from msgm_bench.experiment.spec import RunSpec

log = logging.getLogger("msgm_bench.grid")

WORKER_THREADS = 1  # of a worker, unless the run states a number


@dataclass(frozen=True)
class Job:
    """Work of one worker: a stage that several runs need, or a whole run; picklable.

    Attributes:
        name: Key of the stage, or name of the run folder.
        spec: The request whose graph has the work.
        stage: Name of the stage in that graph; None for the run.
        needs: Names of the jobs that come before.
    """

    name: str
    spec: RunSpec
    stage: str | None = None
    needs: frozenset[str] = frozenset()


def worker_specs(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """The requests with their number of threads: workers are many, and each has one by default.

    Keys depend on the number, so that it stands in the request before anything is planned.
    """
    threads = {"threads": WORKER_THREADS}
    return [s if s.threads is not None else s.model_copy(update=threads) for s in specs]


def plan_jobs(plans: Sequence[Plan], cache: Cache) -> dict[str, Job]:
    """Jobs by name, of runs with a stage that is not cached.

    A stage that two runs need is a job of its own, so that no worker waits for another's lock;
    those that most runs need come first, and runs last.
    """
    missing = {plan.spec.folder: _missing_stages(plan, cache) for plan in plans}
    runs = Counter(key for stages in missing.values() for key in {s.key for s in stages.values()})
    shared: dict[str, Job] = {}
    whole: dict[str, Job] = {}
    for plan in plans:
        spec, stages = plan.spec, missing[plan.spec.folder]
        for label, stage in stages.items():
            if runs[stage.key] > 1 and stage.key not in shared:
                needs = frozenset(key for key in _keys_before(stage) if runs[key] > 1)
                shared[stage.key] = Job(stage.key, spec, label, needs)
        if stages:
            needs = frozenset(s.key for s in stages.values() if s.key in shared)
            whole[spec.folder] = Job(spec.folder, spec, needs=needs)
    return {key: shared[key] for key in sorted(shared, key=lambda key: -runs[key])} | whole


def _missing_stages(plan: Plan, cache: Cache) -> dict[str, Stage]:
    """The stages of a run that are not cached, by name; none of a run that is skipped."""
    stages = {} if plan.skipped is not None else build_graph(plan).stages
    return {name: stage for name, stage in stages.items() if cache.find(stage.key) is None}


def _keys_before(stage: Stage) -> set[str]:
    """Keys of all stages that a stage needs, directly or not."""
    before = set()
    for need in stage.needs.values():
        before |= {need.key} | _keys_before(need)
    return before


class Schedule:
    """Hands jobs to a pool, each as soon as those that it needs are done.

    Args:
        pool: The workers.
        work: Does a job in a worker; returns its outcome, or a text with the reason of a failure.
        jobs: The jobs by name.
    """

    def __init__(
        self,
        pool: concurrent.futures.Executor,
        work: Callable[[Job], Any],
        jobs: Mapping[str, Job],
    ) -> None:
        self.pool, self.work = pool, work
        self._waiting, self._done = dict(jobs), set[str]()
        self._running: dict[concurrent.futures.Future[Any], Job] = {}

    def submit_ready(self) -> None:
        """Submit every job that needs no other any more."""
        for job in [job for job in self._waiting.values() if job.needs <= self._done]:
            del self._waiting[job.name]
            self._running[self._submit(job)] = job

    def outcomes(self) -> Iterator[tuple[Job, Any]]:
        """Every job with its outcome as they come; a text is the reason of a failure.

        The failure of a stage is the failure of all jobs that need it.

        Raises:
            KeyboardInterrupt: The user's, here or in a worker.
        """
        self.submit_ready()
        while self._running:
            first = concurrent.futures.FIRST_COMPLETED
            for future in concurrent.futures.wait(self._running, return_when=first).done:
                job, outcome = self._running.pop(future), _outcome(future)
                dependents = []
                if isinstance(outcome, str):
                    dependents = list(self._give_up(job, outcome))
                else:
                    self._done.add(job.name)
                    self.submit_ready()
                yield job, outcome
                yield from dependents

    def _submit(self, job: Job) -> concurrent.futures.Future[Any]:
        """The future of a job; one that has failed where the pool does not take it."""
        try:
            return self.pool.submit(self.work, job)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - the jobs that are done keep their outcomes
            refused = concurrent.futures.Future[Any]()
            refused.set_exception(error)
            return refused

    def _give_up(self, failed: Job, reason: str) -> Iterator[tuple[Job, Any]]:
        """The jobs that need one that failed, with the reason."""
        for job in [job for job in self._waiting.values() if failed.name in job.needs]:
            if self._waiting.pop(job.name, None) is not None:
                yield job, f"the stage {failed.stage!r}, which this run shares, failed: {reason}"
                yield from self._give_up(job, reason)


def _outcome(future: concurrent.futures.Future[Any]) -> Any:
    """The outcome of a job that has ended, or the reason why there is none."""
    try:
        return future.result()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - one run must not take the grid down
        return failure_reason(error)


def failure_reason(error: BaseException) -> str:
    """Why a run failed; the traceback of an unexpected error goes to the log under ``-v``."""
    if isinstance(error, MsgmBenchError):
        return str(error)
    reason = quarantine.reason_of(error)
    log.error("unexpected %s; msgm-bench -v shows where", reason)
    log.debug("%s", "".join(traceback.format_exception(error)))
    return reason
