"""What executors and trackers keep: a result for each cell, and runs that they do not disturb."""

from __future__ import annotations

import contextlib
import copy
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
from msgm_bench.testing.plugins import check_plugin

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


def check_executor(cls: type[Executor], options: Mapping[str, Any] | None = None) -> None:
    """A result for each cell, in order, whatever becomes of another cell.

    Cells may come from a generator, be none, or be more than there are workers. Where a cell raises
    or its process dies, an exception stands in the place of its result, and the cells before and
    after have theirs; a KeyboardInterrupt of a cell is raised. It can be used again.
    """
    check_plugin(cls)
    executor, probe = cls.create(options), _Probe(os.getpid())
    assert list(executor.map(probe, [])) == [], f"{cls.name}: results of no cells"
    words = ("slow", "run", "run", "raise", "run", "die", "run", "run")
    cells = [(word, number) for number, word in enumerate(words)]
    try:
        results = list(executor.map(probe, iter(cells)))
    except Exception as error:
        raise AssertionError(
            f"{cls.name}: a cell that fails takes the others down: {type(error).__name__}: {error}"
        ) from error
    assert len(results) == len(cells), f"{cls.name}: {len(results)} results of {len(cells)} cells"
    elsewhere = any(result[1] != os.getpid() for result in results if isinstance(result, tuple))
    for (word, number), result in zip(cells, results, strict=True):
        place = f"{cls.name}: in the place of cell {number}"
        if word == "raise" or (word == "die" and elsewhere):
            failed = isinstance(result, Exception)
            assert failed, f"{place}, which is to {word}, stands {result!r}, not the exception"
        else:
            right = isinstance(result, tuple) and result[0] == number
            assert right, f"{place} stands {result!r}"
    try:
        list(executor.map(probe, [("run", 0), ("stop", 1)]))
    except KeyboardInterrupt:
        return
    raise AssertionError(f"{cls.name}: swallows a KeyboardInterrupt: Ctrl-C would not stop a grid")


def check_tracker(cls: type[Tracker], options: Mapping[str, Any] | None = None) -> None:
    """It hears hooks that exist, through runs that end well, that fail, and that never began.

    Values may be none or not finite, names may hold any letters. It changes nothing of what it is
    told, prints nothing to stdout, which is the command's, and a second instance, as every worker
    makes one, does not mind the first. It is tried in an empty folder.
    """
    check_plugin(cls)
    known = set(HOOKS) & set(dir(cls))
    hooked = [name for name in known if hasattr(getattr(cls, name), f"{hookspecs.PROJECT}_impl")]
    assert hooked, f"{cls.name}: hears no hook: implement one of {', '.join(HOOKS)} as @hookimpl"
    said = io.StringIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(said),
    ):
        for _ in range(2):
            with _listening(cls, options) as manager:
                _tell_all(cls.name, manager.hook)
        with _listening(cls, options) as manager, _listening(cls, options) as second:
            _tell_all(cls.name, manager.hook)
            _tell(cls.name, second.hook, "run_failed", spec={}, folder="out/b", reason="died")
    assert not said.getvalue(), f"{cls.name}: prints to stdout, which holds the results"


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
