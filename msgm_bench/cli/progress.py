"""Progress of runs, plugins on the life-cycle hooks: bars on a terminal, lines otherwise.

One display listens to this process and counts the runs that end. For each job of a worker it makes
a listener of its own, since the stages of several workers go on side by side.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from msgm_bench.api import Result
from msgm_bench.cli.tables import PlainConsole
from msgm_bench.cli.terminal import echo
from msgm_bench.hookspecs import hookimpl
from msgm_bench.registry import registry
from msgm_bench.storage import single_line

LINE_SECONDS = 30.0  # between two lines of one stage


def run_name(spec: Mapping[str, Any]) -> str:
    """Method, backbone and seed of a run."""
    return f"{spec['method']}, {spec['backbone']}, seed {spec['seed']}"


class StageBar:
    """A bar with the remaining time for the current stage of one process.

    Args:
        bars: The display.
        is_worker: Whether the bar names the run, since others go on beside it.
    """

    def __init__(self, bars: ProgressBars, is_worker: bool = False) -> None:
        self.bars, self.is_worker, self.run = bars, is_worker, ""
        self.stage: TaskID | None = None

    @hookimpl
    def run_started(self, spec: Mapping[str, Any], folder: str) -> None:
        """Note the run's name."""
        self.run = f" of {run_name(spec)}" if self.is_worker else ""

    @hookimpl
    def stage_started(self, stage: str, key: str, total: int, done: int) -> None:
        """Add the stage's bar."""
        self.remove()
        self.stage = self.bars.progress.add_task(self._title(stage), total=total, completed=done)

    @hookimpl
    def step_ended(self, stage: str, step: int, total: int, values: Mapping[str, float]) -> None:
        """Advance the stage's bar."""
        if self.stage is not None:
            title = self._title(stage)
            self.bars.progress.update(self.stage, description=title, completed=step, total=total)

    @hookimpl
    def stage_ended(self, stage: str, key: str, seconds: float, cached: bool) -> None:
        """Remove the stage's bar."""
        self.remove()

    @hookimpl
    def run_ended(self, result: Result, folder: str) -> None:
        """Count the run, and print the outcome."""
        self.bars.count(f"{run_name(result.spec.model_dump())}: {result.status}")

    @hookimpl
    def run_failed(self, spec: Mapping[str, Any], folder: str, reason: str) -> None:
        """Count the run, and print the reason."""
        self.remove()
        self.bars.count(f"{run_name(spec)}: failed: {reason}")

    def remove(self) -> None:
        """Remove the bar, if there is one."""
        if self.stage is not None:
            self.bars.progress.remove_task(self.stage)
            self.stage = None

    def _title(self, stage: str) -> str:
        return single_line(f"{stage}{self.run}")


class ProgressBars:
    """A bar for all runs, and one for the current stage of each process.

    Args:
        num_runs: Number of runs of the grid.
    """

    def __init__(self, num_runs: int) -> None:
        self.progress = Progress(
            TextColumn("{task.description:<24}", markup=False),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=PlainConsole(stderr=True),
            transient=True,
        )
        self.runs = self.progress.add_task("runs", total=num_runs)

    def count(self, outcome: str) -> None:
        """Advance the bar of runs, and print a run's outcome."""
        self.progress.advance(self.runs)
        self.progress.console.print(outcome)

    def own(self) -> StageBar:
        """The listener of this process."""
        return StageBar(self)

    @contextlib.contextmanager
    def worker(self) -> Iterator[StageBar]:
        """The listener of a worker's job."""
        bar = StageBar(self, is_worker=True)
        try:
            yield bar
        finally:
            bar.remove()


class StageLines:
    """A line when a stage starts, every ``LINE_SECONDS`` within it, and when it ends.

    Args:
        lines: The display.
        is_worker: Whether each line names the run, and the run's own line comes at its end.
    """

    def __init__(self, lines: ProgressLines, is_worker: bool = False) -> None:
        self.lines, self.is_worker, self.indent, self.last_line = lines, is_worker, "  ", 0.0

    @hookimpl
    def run_started(self, spec: Mapping[str, Any], folder: str) -> None:
        """Print the run's number and its request; of a worker's, note its name."""
        if self.is_worker:
            self.indent = f"  {run_name(spec)}: "
            return
        request = f"{spec['method']} on {spec['dataset']}, {spec['backbone']}, seed {spec['seed']}"
        self.lines.count(request)

    @hookimpl
    def stage_started(self, stage: str, key: str, total: int, done: int) -> None:
        """Print the stage's name."""
        self.last_line = time.monotonic()
        self._print(f"{stage} ...")

    @hookimpl
    def step_ended(self, stage: str, step: int, total: int, values: Mapping[str, float]) -> None:
        """Print the step, unless the last line is recent."""
        if time.monotonic() - self.last_line > LINE_SECONDS:
            self.last_line = time.monotonic()
            self._print(f"{stage}: {step}/{total}")

    @hookimpl
    def stage_ended(self, stage: str, key: str, seconds: float, cached: bool) -> None:
        """Print the stage's time; nothing of a worker's that was cached."""
        if not (cached and self.is_worker):
            self._print(f"{stage}: {'cached' if cached else f'done in {seconds:.1f} s'}")

    @hookimpl
    def run_ended(self, result: Result, folder: str) -> None:
        """Print the number and the outcome of a worker's run."""
        if self.is_worker:
            self.lines.count(f"{run_name(result.spec.model_dump())}: {result.status}")

    @hookimpl
    def run_failed(self, spec: Mapping[str, Any], folder: str, reason: str) -> None:
        """Print the reason."""
        if self.is_worker:
            self.lines.count(f"{run_name(spec)}: failed: {reason}")
        else:
            self._print(f"failed: {reason}")

    def _print(self, line: str) -> None:
        echo(f"{self.indent}{line}", err=True)


class ProgressLines:
    """Lines for runs, and within them for the stages of each process.

    Args:
        num_runs: Number of runs of the grid.
    """

    def __init__(self, num_runs: int) -> None:
        self.num_runs, self.run = num_runs, 0

    def count(self, line: str) -> None:
        """Print a line with the number of a run."""
        self.run += 1
        echo(f"[{self.run}/{self.num_runs}] {line}", err=True)

    def own(self) -> StageLines:
        """The listener of this process."""
        return StageLines(self)

    @contextlib.contextmanager
    def worker(self) -> Iterator[StageLines]:
        """The listener of a worker's job."""
        yield StageLines(self, is_worker=True)


@contextlib.contextmanager
def show_progress(num_runs: int) -> Iterator[ProgressBars | ProgressLines]:
    """Show the events of this process on stderr while the block runs; the display."""
    manager = registry().manager
    display: ProgressBars | ProgressLines = (
        ProgressBars(num_runs) if sys.stderr.isatty() else ProgressLines(num_runs)
    )
    own = display.own()
    manager.register(own, "progress")
    try:
        with display.progress if isinstance(display, ProgressBars) else contextlib.nullcontext():
            yield display
    finally:
        manager.unregister(own)
