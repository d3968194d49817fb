"""What executors and trackers keep: a result for each cell, and runs that they do not disturb."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pluggy

from msgm_bench import hookspecs
from msgm_bench.api import Executor, Result, Row, SpecRecord, Tracker
from msgm_bench.testing.checks import Check, require
from msgm_bench.testing.plugins import PLUGIN_CHECKS

HOOKS = (
    "run_started",
    "stage_started",
    "step_ended",
    "stage_ended",
    "metric_computed",
    "run_ended",
    "run_failed",
)


@dataclass(frozen=True)
class _Probe:
    """A cell that does as it is called; picklable."""

    home: int

    def __call__(self, cell: tuple[str, int]) -> tuple[int, int]:
        """The cell's number and the process that it ran in."""
        word, number = cell
        if word == "slow":
            time.sleep(0.2)
        if word == "raise":
            raise ValueError(f"cell {number} fails")
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
        """Nothing: the cells are made here."""
        return None

    @functools.cached_property
    def executor(self) -> Executor:
        """With its options; one for all checks."""
        return self.cls.create(self.options)

    @functools.cached_property
    def results(self) -> list[tuple[tuple[str, int], Any]]:
        """Cells, some of which fail, and what stands in the place of their results."""
        probe = _Probe(os.getpid())
        words = ("slow", "run", "run", "raise", "run", "die", "run", "run")
        cells = [(word, number) for number, word in enumerate(words)]
        name = self.cls.name
        try:
            results = list(self.executor.map(probe, iter(cells)))
        except Exception as error:
            kind = type(error).__name__
            raise AssertionError(
                f"{name}: a cell that fails takes the others down: {kind}: {error}"
            ) from error
        assert len(results) == len(cells), f"{name}: {len(results)} results of {len(cells)} cells"
        return list(zip(cells, results, strict=True))


def _check_empty(case: ExecutorCase) -> None:
    none = list(case.executor.map(_Probe(os.getpid()), []))
    assert none == [], f"{case.cls.name}: results of no cells"


def _fails(case: ExecutorCase, word: str) -> bool:
    """Whether a cell is to fail: one that dies does in a process of its own only."""
    own = any(result[1] != os.getpid() for _, result in case.results if isinstance(result, tuple))
    return word == "raise" or (word == "die" and own)


def _check_order(case: ExecutorCase) -> None:
    for (word, number), result in case.results:
        if not _fails(case, word):
            right = isinstance(result, tuple) and result[0] == number
            place = f"{case.cls.name}: in the place of cell {number}"
            assert right, f"{place} stands {result!r}"


def _check_failures(case: ExecutorCase) -> None:
    for (word, number), result in case.results:
        if _fails(case, word):
            place = f"{case.cls.name}: in the place of cell {number}"
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
    Check("empty", "no results of no cells", _check_empty),
    Check("order", "a result for each cell, in the order of the cells", _check_order),
    Check("failures", "an exception in the place of a cell that fails", _check_failures),
    Check("interrupt", "a KeyboardInterrupt stops it", _check_interrupt),
)


def check_executor(cls: type[Executor], options: Mapping[str, Any] | None = None) -> None:
    """A result for each cell, in order, whatever becomes of another cell.

    Cells may come from a generator, be none, or be more than there are workers. Where a cell raises
    or its process dies, an exception stands in the place of its result, and the cells before and
    after have theirs; a KeyboardInterrupt of a cell is raised. It can be used again.
    """
    require(EXECUTOR_CHECKS, ExecutorCase(cls, options))


@dataclass(frozen=True, eq=False)
class TrackerCase:
    """A tracker under check, which is tried in an empty folder."""

    cls: type[Tracker]
    options: Mapping[str, Any] | None = None

    def obstacle(self) -> str | None:
        """Nothing: the runs are made here."""
        return None

    def track(self, instances: int) -> str:
        """Runs that end well, fail, and never began, one instance after another; what it prints."""
        stdout, name = io.StringIO(), self.cls.name
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.chdir(folder),
            contextlib.redirect_stdout(stdout),
            contextlib.ExitStack() as stack,
        ):
            managers = [
                stack.enter_context(_listening(self.cls, self.options)) for _ in range(instances)
            ]
            for manager in managers:
                _tell_all(name, manager.hook)
            late = {"spec": {}, "folder": "out/b", "reason": "died"}
            _tell(name, managers[-1].hook, "run_failed", **late)
        return stdout.getvalue()


def _check_hooks(case: TrackerCase) -> None:
    cls, implemented = case.cls, f"{hookspecs.PROJECT}_impl"
    hooked = [name for name in HOOKS if hasattr(getattr(cls, name, None), implemented)]
    assert hooked, f"{cls.name}: hears no hook: implement one of {', '.join(HOOKS)} as @hookimpl"
    with _listening(cls, case.options):
        pass


def _check_events(case: TrackerCase) -> None:
    case.track(1)


def _check_workers(case: TrackerCase) -> None:
    case.track(2)


def _check_stdout(case: TrackerCase) -> None:
    silent = not case.track(1)
    assert silent, f"{case.cls.name}: prints to stdout, which holds the results"


TRACKER_CHECKS: tuple[Check[TrackerCase], ...] = (
    *PLUGIN_CHECKS,
    Check("hooks", "implements hooks that exist", _check_hooks),
    Check("events", "hears a run that ends well and one that fails", _check_events),
    Check("workers", "a second instance does not mind the first", _check_workers),
    Check("stdout", "prints nothing to stdout", _check_stdout),
)


def check_tracker(cls: type[Tracker], options: Mapping[str, Any] | None = None) -> None:
    """It hears hooks that exist, through runs that end well, that fail, and that never began.

    Values may be none or not finite, names may hold any letters. It changes nothing of what it is
    told, prints nothing to stdout, which is the command's, and a second instance, as every worker
    makes one, does not mind the first. It is tried in an empty folder.
    """
    require(TRACKER_CHECKS, TrackerCase(cls, options))


@contextlib.contextmanager
def _listening(
    cls: type[Tracker], options: Mapping[str, Any] | None
) -> Iterator[pluggy.PluginManager]:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(cls.create(options))
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise AssertionError(f"{cls.name}: {error}") from error
    yield manager


def _tell_all(name: str, hook: Any) -> None:
    """A run that ends well, and one that fails."""
    spec = SpecRecord(
        dataset="toy",
        forget=["N/A [/bold] \u202e\x1b[31m"],
        backbone="toy",
        method="toy",
        params={"weight": 1.0, "list": [1, None]},
        regime="retrain",
        preset="quick",
        seed=0,
    )
    given = spec.model_dump()
    row = Row(
        task="toy", metric="toy", split="samples", protocol="toy@1", value=None, unit="%", n=0,
        reason="nothing to measure",
    )  # fmt: skip
    stage = {"stage": "train toy", "key": "00ff"}
    _tell(name, hook, "run_started", spec=given, folder="out/a")
    _tell(name, hook, "stage_started", **stage, total=2, done=0)
    for step, value in enumerate((0.5, float("nan"), float("-inf")), 1):
        _tell(name, hook, "step_ended", stage="train toy", step=step, total=3, values={"x": value})
    _tell(name, hook, "step_ended", stage="train toy", step=3, total=3, values={})
    _tell(name, hook, "stage_ended", **stage, seconds=0.1, cached=False)
    _tell(name, hook, "metric_computed", row=row)
    result = Result(status="skipped", reason="a toy", spec=spec)
    _tell(name, hook, "run_ended", result=result, folder="out/a")
    _tell(name, hook, "run_started", spec=given, folder="out/b")
    _tell(name, hook, "run_failed", spec=given, folder="out/b", reason="diverged\nat step 3")


def _tell(name: str, hook: Any, event: str, **values: Any) -> None:
    before = copy.deepcopy(values)
    try:
        getattr(hook, event)(**values)
    except Exception as error:
        raise AssertionError(
            f"{name}: {event} raises {type(error).__name__}: {error}, which fails the run"
        ) from error
    assert repr(before) == repr(values), f"{name}: {event} changes what it is told"
