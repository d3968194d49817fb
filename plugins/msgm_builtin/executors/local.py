"""Runs in processes of this machine."""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from pydantic import Field

from msgm_bench import Executor, MsgmBenchError, Options, hookimpl

GRACE = 60.0  # seconds for the step at hand, after the end of the command


class LocalOptions(Options):
    """Number of processes."""

    workers: int = Field(2, ge=1, le=1024, description="number of processes")


class Local(Executor[LocalOptions]):
    """Runs in processes of this machine; a process that dies ends its own run alone.

    Every process has the number of CPU threads of the command, since keys depend on it and runs
    share stages by their keys. Set OMP_NUM_THREADS to cores over processes.
    """

    name = "local"
    citation = "loky, https://loky.readthedocs.io"

    def map(self, function: Callable[[Any], Any], runs: Iterable[Any]) -> Iterator[Any]:
        """``function(run)`` for each run, in order.

        A failure gives an exception in place of the result: the one that ``function`` raised, or a
        ``MsgmBenchError`` where the process died.
        """
        slots: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        workers = [_Slot() for _ in range(self.options.workers)]
        for slot in workers:
            slots.put(slot)
        threads = ThreadPoolExecutor(self.options.workers)
        try:
            yield from threads.map(functools.partial(_in_slot, slots, function), runs)
        finally:
            threads.shutdown(wait=True, cancel_futures=True)
            for slot in workers:
                slot.close()


def _in_slot(slots: queue.SimpleQueue[_Slot], function: Callable[[Any], Any], run: Any) -> Any:
    """``function(run)`` in the next free slot."""
    slot = slots.get()
    try:
        return slot.run(function, run)
    finally:
        slots.put(slot)


class _Slot:
    """One process at a time; a new one after a death, so that no other run is lost with it."""

    pool: Any = None

    def run(self, function: Callable[[Any], Any], run: Any) -> Any:
        """``function(run)`` in the process, or the exception."""
        import loky  # pulls in multiprocessing: not where plugins are only listed

        if self.pool is None:
            self.pool = loky.ProcessPoolExecutor(1, initializer=_start, initargs=(os.getpid(),))
        try:
            return self.pool.submit(function, run).result()
        except BrokenProcessPool as error:
            self.close()
            return MsgmBenchError(
                f"the process of this run died{_cause(error)}",
                hint="fewer workers take less memory; repeat the command to continue",
            )
        except Exception as error:  # noqa: BLE001 - a result like any other: the next run goes on
            return error

    def close(self) -> None:
        """End the process."""
        if self.pool is not None:
            self.pool.shutdown(wait=True, kill_workers=True)
            self.pool = None


def _cause(error: BrokenProcessPool) -> str:
    """Signal or exit code, if loky states one."""
    codes = re.search(r"exit codes? of the workers? (?:are|is) \{?([^}\n]*)\}?", str(error))
    return f" ({codes[1].strip()})" if codes else ""


def _start(command: int) -> None:
    """Initialise a process: its stdout becomes stderr, and it ends with the command."""
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
    threading.Thread(target=_end_with, args=(command,), daemon=True).start()


def _end_with(command: int) -> None:
    """After the command's end send SIGTERM, at which training stores a checkpoint; then exit."""
    while os.getppid() == command:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


@hookimpl
def register_executors() -> Sequence[type[Executor]]:
    """Local processes."""
    return [Local]
