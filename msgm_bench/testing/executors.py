"""What an executor keeps: a result for each run, in order."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgm_bench.api import Executor
from msgm_bench.testing.checks import Check, require
from msgm_bench.testing.plugins import PLUGIN_CHECKS


@dataclass(frozen=True)
class _Probe:
    """A run that does as it is called; picklable."""

    home: int

    def __call__(self, run: tuple[str, int]) -> tuple[int, int]:
        """The run's number and the process that it ran in."""
        word, number = run
        if word == "slow":
            time.sleep(0.2)
        if word == "raise":
            raise ValueError(f"run {number} fails")
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
        """Nothing: the runs are made here."""
        return None

    @functools.cached_property
    def executor(self) -> Executor:
        """With its options; one for all checks."""
        return self.cls.create(self.options)

    @functools.cached_property
    def results(self) -> list[tuple[tuple[str, int], Any]]:
        """Runs, some of which fail, and what stands in the place of their results."""
        probe = _Probe(os.getpid())
        words = ("slow", "run", "run", "raise", "run", "die", "run", "run")
        runs = [(word, number) for number, word in enumerate(words)]
        name = self.cls.name
        try:
            results = list(self.executor.map(probe, iter(runs)))
        except Exception as error:
            kind = type(error).__name__
            raise AssertionError(
                f"{name}: a run that fails takes the others down: {kind}: {error}"
            ) from error
        assert len(results) == len(runs), f"{name}: {len(results)} results of {len(runs)} runs"
        return list(zip(runs, results, strict=True))


def _check_empty(case: ExecutorCase) -> None:
    none = list(case.executor.map(_Probe(os.getpid()), []))
    assert none == [], f"{case.cls.name}: results of no runs"


def _fails(case: ExecutorCase, word: str) -> bool:
    """Whether a run is to fail: one that dies does in a process of its own only."""
    own = any(result[1] != os.getpid() for _, result in case.results if isinstance(result, tuple))
    return word == "raise" or (word == "die" and own)


def _check_order(case: ExecutorCase) -> None:
    for (word, number), result in case.results:
        if not _fails(case, word):
            right = isinstance(result, tuple) and result[0] == number
            place = f"{case.cls.name}: in the place of run {number}"
            assert right, f"{place} stands {result!r}"


def _check_failures(case: ExecutorCase) -> None:
    for (word, number), result in case.results:
        if _fails(case, word):
            place = f"{case.cls.name}: in the place of run {number}"
            failed = isinstance(result, Exception)
            assert failed, f"{place}, which is to {word}, stands {result!r}, not the exception"


def _check_interrupt(case: ExecutorCase) -> None:
    try:
        list(case.executor.map(_Probe(os.getpid()), [("run", 0), ("stop", 1)]))
    except KeyboardInterrupt:
        return
    raise AssertionError(
        f"{case.cls.name}: swallows a KeyboardInterrupt: Ctrl-C would not stop a grid"
    )


EXECUTOR_CHECKS: tuple[Check[ExecutorCase], ...] = (
    *PLUGIN_CHECKS,
    Check("empty", "no results of no runs", _check_empty),
    Check("order", "a result for each run, in the order of the runs", _check_order),
    Check("failures", "an exception in the place of a run that fails", _check_failures),
    Check("interrupt", "a KeyboardInterrupt stops it", _check_interrupt),
)


def check_executor(cls: type[Executor], options: Mapping[str, Any] | None = None) -> None:
    """A result for each run, in order, whatever becomes of another run.

    Runs may come from a generator, be none, or be more than there are workers. Where a run raises
    or its process dies, an exception stands in the place of its result, and the runs before and
    after have theirs; a KeyboardInterrupt of a run is raised. It can be used again.
    """
    require(EXECUTOR_CHECKS, ExecutorCase(cls, options))
