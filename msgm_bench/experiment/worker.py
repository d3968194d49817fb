"""A job of a grid in a worker: planned and done there, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from msgm_bench.api import Result
from msgm_bench.experiment.grid import Job, failure_reason
from msgm_bench.experiment.plan import Plan, resolve
from msgm_bench.experiment.trackers import Choice, active_trackers
from msgm_bench.experiment.worker_events import process_name, written_events


@dataclass(frozen=True)
class Worker:
    """Does jobs; picklable.

    Attributes:
        run: Runs a plan into a folder; returns a failed result where it fails.
        run_stage: Computes the named stage of a plan, as a part of its run into a folder.
        out: The folder for results.
        events: The folder for life-cycle events, a file a job.
        trackers: Name and options of trackers, which are made anew for each job.
        command: The command's process.
    """

    run: Callable[[Plan, Path], Result]
    run_stage: Callable[[Plan, Path, str], None]
    out: Path
    events: Path
    trackers: tuple[Choice, ...] = ()
    command: str = field(default_factory=process_name)

    def __call__(self, job: Job) -> Result | str | None:
        """The result of a run, None of a stage; a text with the reason where there is neither."""
        try:
            with written_events(self.events / job.name, self.command):
                plan = resolve(job.spec)
                with active_trackers(self.trackers):
                    if job.stage is None:
                        return self.run(plan, self.out)
                    self.run_stage(plan, self.out, job.stage)
            return None
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - one run must not take the grid down
            return failure_reason(error)
