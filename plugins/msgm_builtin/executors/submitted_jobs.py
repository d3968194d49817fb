"""A pool on a batch scheduler: jobs go in arrays, and their results come as files."""

from __future__ import annotations

import concurrent.futures
import logging
import queue
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from msgm_bench import MsgmBenchError

log = logging.getLogger(__name__)

Future = concurrent.futures.Future[Any]
PREEMPTION = signal.Signals["SIGUSR2"] if hasattr(signal, "SIGUSR2") else signal.SIGTERM


@dataclass
class ResumableJob:
    """A job that the scheduler may stop and start again; submitit calls it in a process of its own.

    The scheduler's warning becomes the SIGTERM at which training stores a checkpoint after its
    step; then the job is queued again and resumes.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> tuple[Any, BaseException | None]:
        """What the function returns, and the exception that it ends with."""
        warnings: list[int] = []
        queue_again: Any = signal.getsignal(PREEMPTION)

        def warn(number: int, frame: FrameType | None) -> None:
            warnings.append(number)
            signal.raise_signal(signal.SIGTERM)

        def stop(number: int, frame: FrameType | None) -> None:
            raise KeyboardInterrupt

        signal.signal(signal.SIGTERM, stop)
        signal.signal(PREEMPTION, warn)
        try:
            return self.function(*self.arguments, **self.options), None
        except KeyboardInterrupt as error:
            if warnings and callable(queue_again):
                queue_again(PREEMPTION, None)  # ends the process
            return None, error
        except Exception as error:  # noqa: BLE001 - the outcome of the job
            return None, error

    def checkpoint(self) -> Any:
        """The submission that resumes the job."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(ResumableJob(self.function, self.arguments, self.options))


class Scheduler(ABC):
    """Submits arrays of jobs, and knows which of them live."""

    poll_seconds = 1.0

    @abstractmethod
    def submit(self, jobs: Sequence[ResumableJob]) -> Sequence[Any]:
        """submitit's jobs, in the same order.

        Raises:
            MsgmBenchError: The scheduler refuses them.
        """

    @abstractmethod
    def ended(self, jobs: Sequence[Any]) -> Mapping[str, str]:
        """Why jobs without a result have ended, by their number; those that live are left out."""


class SubmittedJobs(concurrent.futures.Executor):
    """Futures of jobs on a scheduler; a thread submits and looks for results.

    Jobs that come together are one array. An array that is refused goes in halves; where the queue
    is full, the rest waits for jobs of its own to end.

    Args:
        scheduler: The scheduler.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._new: queue.SimpleQueue[tuple[Future, ResumableJob]] = queue.SimpleQueue()
        self._waiting: list[tuple[Future, ResumableJob]] = []
        self._running: dict[Future, Any] = {}
        self._closed, self._cancelled = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future:
        """Queue a job."""
        future = Future()
        self._new.put((future, ResumableJob(function, arguments, options)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the jobs end; with ``cancel_futures`` cancel them."""
        if cancel_futures:
            self._cancelled.set()
        self._closed.set()
        if wait:
            self._thread.join()

    def _work(self) -> None:
        """Submit and look, until the pool is closed and nothing is left."""
        while True:
            is_closed = self._closed.wait(self.scheduler.poll_seconds)
            while not self._new.empty():
                self._waiting.append(self._new.get())
            if self._cancelled.is_set():
                self._cancel()
                return
            if self._waiting:
                batch, self._waiting = self._waiting, []
                self._send(batch)
            self._collect()
            if is_closed and not (self._running or self._waiting):
                return
            if is_closed:
                time.sleep(self.scheduler.poll_seconds)

    def _send(self, batch: list[tuple[Future, ResumableJob]]) -> None:
        """Submit a batch as one array, or in smaller ones where it is refused."""
        try:
            jobs = self.scheduler.submit([job for _, job in batch])
        except Exception as error:  # noqa: BLE001 - the outcome of jobs that cannot be submitted
            if len(batch) > 1:
                half = len(batch) // 2
                self._send(batch[:half])
                self._send(batch[half:])
            elif self._running:
                log.info("the scheduler refuses a job, which waits: %s", error)
                self._waiting += batch
            else:
                batch[0][0].set_exception(error)
            return
        self._running |= {future: job for (future, _), job in zip(batch, jobs, strict=True)}

    def _collect(self) -> None:
        """Give results to the futures of jobs that have ended."""
        for future, job in list(self._running.items()):
            if job.paths.result_pickle.exists():
                del self._running[future]
                _settle(future, job)
        gone = self.scheduler.ended(list(self._running.values()))
        for future, job in list(self._running.items()):
            if job.job_id in gone:
                del self._running[future]
                future.set_exception(MsgmBenchError(gone[job.job_id]))

    def _cancel(self) -> None:
        """Cancel what waits and what runs."""
        for future, _ in self._waiting:
            future.cancel()
        for future, job in self._running.items():
            job.cancel(check=False)
            future.cancel()


def _settle(future: Future, job: Any) -> None:
    """Give a future the outcome in the job's result file."""
    error = job.exception()
    if error is not None:  # not even the job's function could be loaded
        trace = [line for line in str(error).splitlines() if line.strip()]
        last = next((line for line in trace if "Error:" in line or "not requeued" in line), "")
        future.set_exception(MsgmBenchError(f"job {job.job_id}: {last or trace[0]}"))
        return
    outcome, raised = job.result()
    if raised is not None:
        future.set_exception(raised)
    else:
        future.set_result(outcome)
