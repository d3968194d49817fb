"""Progress of runs, a plugin on the life-cycle hooks: bars on a terminal, lines otherwise."""

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


class ProgressBars:
    """A bar for all runs, and a bar with the remaining time for the current stage.

    Args:
        num_runs: Number of runs of the grid.
    """

    def __init__(self, num_runs: int) -> None:
        self.bars = Progress(
            TextColumn("{task.description:<24}", markup=False),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=PlainConsole(stderr=True),
            transient=True,
        )
        self.runs = self.bars.add_task("runs", total=num_runs)
        self.stage: TaskID | None = None

    @hookimpl
    def stage_started(self, stage: str, key: str, total: int, done: int) -> None:
        """Add the stage's bar."""
        self.stage = self.bars.add_task(single_line(stage), total=total, completed=done)

    @hookimpl
    def step_ended(self, stage: str, step: int, total: int, values: Mapping[str, float]) -> None:
        """Advance the stage's bar."""
        if self.stage is not None:
            self.bars.update(
                self.stage, description=single_line(stage), completed=step, total=total
            )

    @hookimpl
    def stage_ended(self, stage: str, key: str, seconds: float, cached: bool) -> None:
        """Remove the stage's bar."""
        self._remove_stage()

    @hookimpl
    def run_ended(self, result: Result, folder: str) -> None:
        """Advance the bar of runs, and print the outcome."""
        self.bars.advance(self.runs)
        spec = result.spec
        outcome = f"{spec.method}, {spec.backbone}, seed {spec.seed}: {result.status}"
        self.bars.console.print(outcome)

    @hookimpl
    def run_failed(self, spec: Mapping[str, Any], folder: str, reason: str) -> None:
        """Advance the bar of runs, and print the reason."""
        self._remove_stage()
        self.bars.advance(self.runs)
        self.bars.console.print(f"{spec['method']}: failed: {reason}")

    def _remove_stage(self) -> None:
        if self.stage is not None:
            self.bars.remove_task(self.stage)
            self.stage = None


class ProgressLines:
    """A line when a stage starts, every ``LINE_SECONDS`` within it, and when it ends.

    Args:
        num_runs: Number of runs of the grid.
    """

    def __init__(self, num_runs: int) -> None:
        self.num_runs, self.run, self.last_line = num_runs, 0, 0.0

    @hookimpl
    def run_started(self, spec: Mapping[str, Any], folder: str) -> None:
        """Print the run's number and its request."""
        self.run += 1
        request = f"{spec['method']} on {spec['dataset']}, {spec['backbone']}, seed {spec['seed']}"
        echo(f"[{self.run}/{self.num_runs}] {request}", err=True)

    @hookimpl
    def stage_started(self, stage: str, key: str, total: int, done: int) -> None:
        """Print the stage's name."""
        self.last_line = time.monotonic()
        echo(f"  {stage} ...", err=True)

    @hookimpl
    def step_ended(self, stage: str, step: int, total: int, values: Mapping[str, float]) -> None:
        """Print the step, unless the last line is recent."""
        if time.monotonic() - self.last_line > LINE_SECONDS:
            self.last_line = time.monotonic()
            echo(f"  {stage}: {step}/{total}", err=True)

    @hookimpl
    def stage_ended(self, stage: str, key: str, seconds: float, cached: bool) -> None:
        """Print the stage's time."""
        echo(f"  {stage}: {'cached' if cached else f'done in {seconds:.1f} s'}", err=True)

    @hookimpl
    def run_failed(self, spec: Mapping[str, Any], folder: str, reason: str) -> None:
        """Print the reason."""
        echo(f"  failed: {reason}", err=True)


@contextlib.contextmanager
def show_progress(num_runs: int) -> Iterator[None]:
    """Show the events of the life-cycle hooks on stderr while the block runs."""
    manager = registry().manager
    display: ProgressBars | ProgressLines = (
        ProgressBars(num_runs) if sys.stderr.isatty() else ProgressLines(num_runs)
    )
    manager.register(display, "progress")
    try:
        with display.bars if isinstance(display, ProgressBars) else contextlib.nullcontext():
            yield
    finally:
        manager.unregister(display)
