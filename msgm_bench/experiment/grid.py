"""Runs of a grid in an executor's workers: one outcome a run, whatever becomes of a worker."""

from __future__ import annotations

import itertools
import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from msgm_bench import quarantine
from msgm_bench.api import Executor, Result
from msgm_bench.errors import MsgmBenchError
from msgm_bench.experiment.plan import Plan, resolve
from msgm_bench.experiment.shared_stages import refuse
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.experiment.trackers import Choice, active_trackers

log = logging.getLogger("msgm_bench.grid")


@dataclass(frozen=True)
class Job:
    """Plans and runs one request in a worker; picklable.

    Attributes:
        run: Runs a plan into a folder; returns a failed result where it fails.
        out: The folder for results.
        trackers: Name and options of trackers, which are made anew in the worker.
        threads: CPU threads of each worker: keys and values depend on their number.
    """

    run: Callable[[Plan, Path], Result]
    out: Path
    trackers: tuple[Choice, ...] = ()
    threads: int = field(default_factory=torch.get_num_threads)

    def __call__(self, spec: RunSpec) -> tuple[str, Result | str]:
        """Name of the run folder, and the result or the reason why there is no plan."""
        try:
            torch.set_num_threads(self.threads)
            plan = resolve(spec)
            with active_trackers(self.trackers):
                return spec.folder, self.run(plan, self.out)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - one run must not take the grid down
            return spec.folder, failure_reason(error)


def run_jobs(
    executor: Executor, job: Job, specs: Sequence[RunSpec]
) -> tuple[dict[str, Result | str], Iterator[str]]:
    """Outcomes by folder name, in whatever order they come; then why other runs have none.

    An executor may raise, stop early, or put the exception that ended a worker in the place of a
    result: the reasons are those exceptions in their order, and at last what stopped the executor.

    Raises:
        UsageError: A launcher has started several processes.
    """
    refuse(executor)
    outcomes: dict[str, Result | str] = {}
    reasons = []
    last = f"executor {executor.name!r} returned no result of this run"
    try:
        for outcome in executor.map(job, specs):
            if isinstance(outcome, BaseException):
                reasons.append(failure_reason(outcome))
            else:
                name, result = outcome
                outcomes[name] = result
                log.info("%s: %s", name, getattr(result, "status", "failed"))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the runs that are done keep their results
        last = f"executor {executor.name!r} stopped: {failure_reason(error)}"
    return outcomes, itertools.chain(reasons, itertools.repeat(last))


def failure_reason(error: BaseException) -> str:
    """Why a run failed; the traceback of an unexpected error goes to the log under ``-v``."""
    if isinstance(error, MsgmBenchError):
        return str(error)
    reason = quarantine.reason_of(error)
    log.error("unexpected %s; msgm-bench -v shows where", reason)
    log.debug("%s", "".join(traceback.format_exception(error)))
    return reason
