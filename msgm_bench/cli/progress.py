"""Progress as a plugin on the life-cycle hooks: bars on a terminal, lines otherwise."""

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
from msgm_bench.cli.terminal import say
from msgm_bench.hookspecs import hookimpl
from msgm_bench.registry import registry
from msgm_bench.storage import single_line


class Bars:
    """One bar for the cells, one for the stage at hand with the time that it has left."""

    def __init__(self, cells: int) -> None:
        self.bars = Progress(
            TextColumn("{task.description:<24}", markup=False),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=PlainConsole(stderr=True),
            transient=True,
        )
        self.cells = self.bars.add_task("cells", total=cells)
        self.stage: TaskID | None = None

    @hookimpl
    def stage_started(self, stage: str, key: str, total: int, done: int) -> None:
        """A new bar."""
        self.stage = self.bars.add_task(single_line(stage), total=total, completed=done)

    @hookimpl
    def step_ended(self, stage: str, step: int, total: int, values: Mapping[str, float]) -> None:
        """Forward."""
        if self.stage is not None:
            self.bars.update(
                self.stage, description=single_line(stage), completed=step, total=total
            )

    @hookimpl
    def stage_ended(self, stage: str, key: str, seconds: float, cached: bool) -> None:
        """Take the bar away."""
        self._drop()

    @hookimpl
    def run_ended(self, result: Result, folder: str) -> None:
        """One cell more."""
        self._told(result)

    @hookimpl
    def run_failed(self, spec: Mapping[str, Any], folder: str, reason: str) -> None:
        """One cell more, and what went wrong."""
        self._drop()
        self.bars.advance(self.cells)
        self.bars.console.print(f"{spec['method']}: failed: {reason}")

    def _told(self, result: Result) -> None:
        self.bars.advance(self.cells)
        spec = result.spec
        words = f"{spec.method}, {spec.backbone}, seed {spec.seed}: {result.status}"
        self.bars.console.print(words)

    def _drop(self) -> None:
        if self.stage is not None:
            self.bars.remove_task(self.stage)
            self.stage = None


class Lines:
    """A line when a stage starts, every thirty seconds within it, and when it ends."""

    interval = 30.0

    def __init__(self, cells: int) -> None:
        self.cells, self.done, self.told = cells, 0, 0.0

    @hookimpl
    def run_started(self, spec: Mapping[str, Any], folder: str) -> None:
        """Name the cell."""
        self.done += 1
        said = f"{spec['method']} on {spec['dataset']}, {spec['backbone']}, seed {spec['seed']}"
        self._say(f"[{self.done}/{self.cells}] {said}")

    @hookimpl
    def stage_started(self, stage: str, key: str, total: int, done: int) -> None:
        """Name the stage."""
        self.told = time.monotonic()
        self._say(f"  {stage} ...")

    @hookimpl
    def step_ended(self, stage: str, step: int, total: int, values: Mapping[str, float]) -> None:
        """Now and then."""
        if time.monotonic() - self.told > self.interval:
            self.told = time.monotonic()
            self._say(f"  {stage}: {step}/{total}")

    @hookimpl
    def stage_ended(self, stage: str, key: str, seconds: float, cached: bool) -> None:
        """How long it took."""
        self._say(f"  {stage}: {'cached' if cached else f'done in {seconds:.1f} s'}")

    @hookimpl
    def run_failed(self, spec: Mapping[str, Any], folder: str, reason: str) -> None:
        """What went wrong."""
        self._say(f"  failed: {reason}")

    def _say(self, text: str) -> None:
        say(text, err=True)


@contextlib.contextmanager
def progress(cells: int) -> Iterator[None]:
    """Show what the life-cycle hooks tell, while the block runs."""
    manager = registry().manager
    shown: Bars | Lines = Bars(cells) if sys.stderr.isatty() else Lines(cells)
    manager.register(shown, "progress")
    try:
        with shown.bars if isinstance(shown, Bars) else contextlib.nullcontext():
            yield
    finally:
        manager.unregister(shown)
