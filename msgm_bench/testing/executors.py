"""What an executor keeps: an outcome for each job, whatever becomes of another."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgm_bench.api import Executor, Resources
from msgm_bench.testing.checks import Check, require
from msgm_bench.testing.plugins import PLUGIN_CHECKS

Job = tuple[str, int]


@dataclass(frozen=True)
class _Probe:
    """Does a job as it is called; picklable."""

    home: int

    def __call__(self, job: Job) -> tuple[int, int]:
        """The job's number and the process that it ran in."""
        word, number = job
        if word == "slow":
            time.sleep(0.2)
        if word == "raise":
            raise ValueError(f"job {number} fails")
        if word == "stop":
            raise KeyboardInterrupt
        if word == "die" and os.getpid() != self.home:
            os._exit(3)
        return number, os.getpid()


@dataclass(frozen=True, eq=False)
class ExecutorCase:
    """An executor under check."""

    cls: type[Executor]
    options: Mapping[str, Any] | None = None

    def obstacle(self) -> str | None:
        """Nothing: the jobs are made here."""
        return None

    @functools.cached_property
    def executor(self) -> Executor:
        """With its options; one for all checks."""
        return self.cls.create(self.options)

    @contextlib.contextmanager
    def pool(self) -> Iterator[concurrent.futures.Executor]:
        """A pool of workers of one thread, which is shut down."""
        with tempfile.TemporaryDirectory() as folder:
            pool = self.executor.pool(Resources(1, False, Path(folder)))
            try:
                yield pool
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    @functools.cached_property
    def outcomes(self) -> list[tuple[Job, Any]]:
        """Jobs, some of which fail, each with its outcome or exception."""
        words = ("slow", "do", "do", "raise", "do", "die", "do", "do")
        jobs = [(word, number) for number, word in enumerate(words)]
        name, probe = self.cls.name, _Probe(os.getpid())
        with self.pool() as pool:
            try:
                futures = [pool.submit(probe, job) for job in jobs]
            except Exception as error:
                kind = type(error).__name__
                raise AssertionError(
                    f"{name}: submit raises what a job ends with: {kind}: {error}"
                ) from error
            right = all(isinstance(future, concurrent.futures.Future) for future in futures)
            assert right, f"{name}: submit returns no future of concurrent.futures"
            return list(zip(jobs, map(_outcome, futures), strict=True))


def _outcome(future: concurrent.futures.Future[Any]) -> Any:
    """What a job returned, or the exception that it ended with; a KeyboardInterrupt is raised."""
    try:
        return future.result()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the outcome of a job that fails
        return error


def _fails(case: ExecutorCase, word: str) -> bool:
    """Whether a job is to fail: one that dies does in a process of its own only."""
    own = any(out[1] != os.getpid() for _, out in case.outcomes if isinstance(out, tuple))
    return word == "raise" or (word == "die" and own)


def _check_outcomes(case: ExecutorCase) -> None:
    for (word, number), outcome in case.outcomes:
        if not _fails(case, word):
            right = isinstance(outcome, tuple) and outcome[0] == number
            assert right, f"{case.cls.name}: the outcome of job {number} is {outcome!r}"


def _check_failures(case: ExecutorCase) -> None:
    for (word, number), outcome in case.outcomes:
        if _fails(case, word):
            sentence = f"{case.cls.name}: the outcome of job {number}, which is to {word}, is"
            assert isinstance(outcome, Exception), f"{sentence} {outcome!r}, not an exception"


def _check_again(case: ExecutorCase) -> None:
    first = len(case.outcomes)
    with case.pool() as pool:
        outcome = _outcome(pool.submit(_Probe(os.getpid()), ("do", first)))
    right = isinstance(outcome, tuple) and outcome[0] == first
    assert right, f"{case.cls.name}: in a second pool the outcome of a job is {outcome!r}"


def _check_interrupt(case: ExecutorCase) -> None:
    with case.pool() as pool:
        try:
            pool.submit(_Probe(os.getpid()), ("stop", 0)).result()
        except KeyboardInterrupt:
            return
    raise AssertionError(
        f"{case.cls.name}: swallows a KeyboardInterrupt: Ctrl-C would not stop a grid"
    )


EXECUTOR_CHECKS: tuple[Check[ExecutorCase], ...] = (
    *PLUGIN_CHECKS,
    Check("outcomes", "each job's future has its own outcome", _check_outcomes),
    Check("failures", "the future of a job that fails has an exception", _check_failures),
    Check("again", "pools can be opened one after the other", _check_again),
    Check("interrupt", "a KeyboardInterrupt stops it", _check_interrupt),
)


def check_executor(cls: type[Executor], options: Mapping[str, Any] | None = None) -> None:
    """A future for each job, with the job's own outcome, whatever becomes of another job.

    Jobs may be more than there are workers. Where a job raises or its process dies, its future has
    an exception, and the futures before and after have their outcomes; a KeyboardInterrupt of a job
    is raised. Pools can be opened one after the other.
    """
    require(EXECUTOR_CHECKS, ExecutorCase(cls, options))
