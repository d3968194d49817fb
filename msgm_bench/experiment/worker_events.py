"""Life-cycle events of workers, which reach the command through files in a shared folder.

Any executor will do: workers share the run folders' place with the command anyway.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pluggy

from msgm_bench import hookspecs
from msgm_bench.api import Result
from msgm_bench.hookspecs import hookimpl
from msgm_bench.registry import registry

STEP_SECONDS = 1.0  # between two events of the steps of a stage
POLL_SECONDS = 0.3  # between two looks at the files

Listener = Callable[[], AbstractContextManager[object]]
"""Makes an object with life-cycle hooks for one job of a worker; it is left when the job ends."""


def process_name() -> str:
    """Host and number of this process."""
    return f"{platform.node()} {os.getpid()}"


class EventWriter:
    """Appends the events of a job to a file, steps at most one a second.

    An event that cannot be written is lost: the job is worth more.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.last_step = path, -STEP_SECONDS
        self.write("")

    @hookimpl
    def run_started(self, spec: Mapping[str, Any], folder: str) -> None:
        """Write the resolved request."""
        self.write("run_started", spec=spec, folder=folder)

    @hookimpl
    def stage_started(self, stage: str, key: str, total: int, done: int) -> None:
        """Write the number of steps, and of those that are done."""
        self.write("stage_started", stage=stage, key=key, total=total, done=done)

    @hookimpl
    def step_ended(self, stage: str, step: int, total: int, values: Mapping[str, float]) -> None:
        """Write the step, unless another has just been written."""
        if time.monotonic() - self.last_step >= STEP_SECONDS:
            self.last_step = time.monotonic()
            self.write("step_ended", stage=stage, step=step, total=total, values={})

    @hookimpl
    def stage_ended(self, stage: str, key: str, seconds: float, cached: bool) -> None:
        """Write the duration."""
        self.write("stage_ended", stage=stage, key=key, seconds=seconds, cached=cached)

    def write(self, event: str, **values: Any) -> None:
        """Append a line, or make the file."""
        line = json.dumps({"event": event, "values": values}, default=str) + "\n" if event else ""
        with contextlib.suppress(OSError), self.path.open("a", encoding="utf-8") as file:
            file.write(line)


@contextlib.contextmanager
def written_events(path: Path, command: str) -> Iterator[None]:
    """Write the events of the block to a file, unless this is the command's own process."""
    if process_name() == command:
        yield
        return
    writer, manager = EventWriter(path), registry().manager
    manager.register(writer)
    try:
        yield
    finally:
        manager.unregister(writer)


class WorkerEvents:
    """Hands the events of workers to listeners, one a job, while the block runs.

    Args:
        folder: Folder of the files, one a job.
        listener: Makes the listener of a job.
    """

    def __init__(self, folder: Path, listener: Listener) -> None:
        self.folder, self.listener = folder, listener
        self._jobs: dict[str, _Source] = {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> WorkerEvents:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop, and leave all listeners."""
        self._stop.set()
        self._thread.join()
        for name in list(self._jobs):
            self.end(name)

    def end(self, name: str, result: Result | None = None, folder: str = "") -> None:
        """Hand on the rest of a job's events, its result if it is a run's, and leave its listener.

        A job that ran in the command's own process has no file and no listener.
        """
        self._read_all()
        with self._lock:
            source = self._jobs.pop(name, None)
            if source is None:
                return
            hook = source.manager.hook
            if result is not None and result.status == "failed":
                spec = result.spec.model_dump()
                hook.run_failed(spec=spec, folder=folder, reason=result.reason)
            elif result is not None:
                hook.run_ended(result=result, folder=folder)
            source.close()

    def _follow(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._read_all()

    def _read_all(self) -> None:
        with self._lock:
            for path in sorted(self.folder.iterdir()):
                if path.name not in self._jobs:
                    self._jobs[path.name] = _Source(path, self.listener)
                self._jobs[path.name].read()


class _Source:
    """The file of one job, and its listener."""

    def __init__(self, path: Path, listener: Listener) -> None:
        self.path, self.position = path, 0
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.stack = contextlib.ExitStack()
        self.manager.register(self.stack.enter_context(listener()))

    def read(self) -> None:
        """Hand on the events since the last call; a line that is not whole waits."""
        with self.path.open("rb") as file:
            file.seek(self.position)
            whole, newline, _ = file.read().rpartition(b"\n")
        self.position += len(whole + newline)
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):  # lines of two attempts at a job, mixed up
                event = json.loads(line)
                getattr(self.manager.hook, event["event"])(**event["values"])

    def close(self) -> None:
        """Leave the listener, and delete the file."""
        self.stack.close()
        self.path.unlink(missing_ok=True)
