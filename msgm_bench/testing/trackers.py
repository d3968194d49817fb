"""What a tracker keeps: runs that it does not disturb."""

from __future__ import annotations

import contextlib
import copy
import io
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pluggy

from msgm_bench import hookspecs
from msgm_bench.api import Result, Row, SpecRecord, Tracker
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
    "job_ended",
)


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
                _call_all(name, manager.hook)
            late = {"spec": {}, "folder": "out/b", "reason": "died"}
            _call(name, managers[-1].hook, "run_failed", **late)
            _call(name, managers[-1].hook, "job_ended", stopped=True)
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


def _call_all(name: str, hook: Any) -> None:
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
    values = spec.model_dump()
    row = Row(
        task="toy", metric="toy", split="samples", protocol="toy@1", value=None, unit="%", n=0,
        reason="nothing to measure",
    )  # fmt: skip
    stage = {"stage": "train toy", "key": "00ff"}
    _call(name, hook, "run_started", spec=values, folder="out/a")
    _call(name, hook, "stage_started", **stage, total=2, done=0)
    for step, value in enumerate((0.5, float("nan"), float("-inf")), 1):
        _call(name, hook, "step_ended", stage="train toy", step=step, total=3, values={"x": value})
    _call(name, hook, "step_ended", stage="train toy", step=3, total=3, values={})
    _call(name, hook, "stage_ended", **stage, seconds=0.1, cached=False)
    _call(name, hook, "metric_computed", row=row)
    result = Result(status="skipped", reason="a toy", spec=spec)
    _call(name, hook, "run_ended", result=result, folder="out/a")
    _call(name, hook, "run_started", spec=values, folder="out/b")
    _call(name, hook, "run_failed", spec=values, folder="out/b", reason="diverged\nat step 3")
    _call(name, hook, "job_ended", stopped=False)


def _call(name: str, hook: Any, event: str, **values: Any) -> None:
    before = copy.deepcopy(values)
    try:
        getattr(hook, event)(**values)
    except Exception as error:
        raise AssertionError(
            f"{name}: {event} raises {type(error).__name__}: {error}, which ends its log"
        ) from error
    assert repr(before) == repr(values), f"{name}: {event} changes its arguments"
