"""Runs in processes of this machine."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import queue
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from pydantic import Field, field_validator

from msgm_bench import Executor, MsgmBenchError, OptionError, Options, Resources, hookimpl

GRACE = 60.0  # seconds for the step at hand, after the end of the command


class LocalOptions(Options):
    """Number of processes, and the GPUs that they share."""

    workers: int | None = Field(
        None, ge=1, le=1024, description="number of processes; by default as many as the GPUs "
        "carry, and 2 without a GPU",
    )  # fmt: skip
    gpus: tuple[int, ...] | None = Field(
        None, description="numbers such as 0,1, of the GPUs that the command sees; by default all"
    )
    per_gpu: int = Field(1, ge=1, le=64, description="processes that share one GPU")

    @field_validator("gpus", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        """``0,1`` and ``1`` of a command line are lists, too."""
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return [value] if isinstance(value, int) else value


class Local(Executor[LocalOptions]):
    """Runs in processes of this machine; a process that dies ends its own run alone.

    Every process has the threads of the run, and sees one GPU where there are GPUs and the device
    is not `cpu`; small runs may share one by `per_gpu`.
    """

    name = "local"
    citation = "loky, https://loky.readthedocs.io"

    def pool(self, resources: Resources) -> concurrent.futures.Executor:
        """Processes, started with their first job.

        Raises:
            OptionError: There are fewer GPUs, or they carry fewer processes.
        """
        gpus = self._gpus() if resources.gpu else []
        carried = len(gpus) * self.options.per_gpu
        workers = self.options.workers or carried or 2
        if gpus and workers > carried:
            raise OptionError(
                f"{workers} workers on {len(gpus)} GPU{'s' if len(gpus) > 1 else ''}",
                f"at most {carried} with local.per_gpu={self.options.per_gpu}",
                f"-x local.per_gpu={-(-workers // len(gpus))} lets runs share a GPU, "
                "--device cpu uses none",
            )
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(resources.threads))
        cards = [
            {"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {} for i in range(workers)
        ]
        return _Processes([threads | card for card in cards])

    def _gpus(self) -> list[str]:
        """The names under which CUDA knows the GPUs.

        Raises:
            OptionError: A number is not that of a GPU.
        """
        import torch  # not in a process before its first job

        variable = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        visible = ([name.strip() for name in variable.split(",")] if variable else []) or [
            str(number) for number in range(count)
        ]
        numbers = range(count) if self.options.gpus is None else self.options.gpus
        if wrong := [number for number in numbers if not 0 <= number < count]:
            raise OptionError(
                f"option 'gpus' of local has {wrong[0]}: the command sees {count} GPUs",
                ", ".join(map(str, range(count))) or "none: leave it out, or use --device cpu",
            )
        return [visible[number] for number in numbers]


class _Processes(concurrent.futures.ThreadPoolExecutor):
    """Slots of one process each; a thread waits for each job.

    Args:
        environments: Variables of each slot's process.
    """

    def __init__(self, environments: Sequence[Mapping[str, str]]) -> None:
        super().__init__(len(environments))
        self.slots = [_Slot(variables) for variables in environments]
        self.free: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for slot in self.slots:
            self.free.put(slot)

    def submit(
        self, function: Callable[..., Any], /, *arguments: Any, **options: Any
    ) -> concurrent.futures.Future[Any]:
        """``function`` with its arguments in the next free slot."""
        return super().submit(self._in_slot, function, *arguments, **options)

    def _in_slot(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        slot = self.free.get()
        try:
            return slot.run(function, *arguments, **options)
        finally:
            self.free.put(slot)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes; with ``cancel_futures`` those at work, too."""
        if cancel_futures:
            super().shutdown(wait=False, cancel_futures=True)
            jobs = [job for slot in self.slots for job in slot.terminate()]
            concurrent.futures.wait(jobs, GRACE)
        super().shutdown(wait=wait, cancel_futures=cancel_futures)
        for slot in self.slots:
            slot.close()


class _Slot:
    """One process at a time; a new one after a death, so that no other run is lost with it."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = dict(variables)
        self.pool: Any = None
        self.job: concurrent.futures.Future[Any] | None = None

    def run(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """``function`` with its arguments in the process.

        Raises:
            MsgmBenchError: The process died.
        """
        import loky  # pulls in multiprocessing: not where plugins are only listed

        if self.pool is None:
            self.pool = loky.ProcessPoolExecutor(
                1, initializer=_start, initargs=(os.getpid(),), env=self.variables
            )
        self.job = self.pool.submit(function, *arguments, **options)
        try:
            return self.job.result()
        except BrokenProcessPool as error:
            self.close()
            raise MsgmBenchError(
                f"the process of this run died{_cause(error)}",
                hint="fewer workers take less memory; repeat the command to continue",
            ) from None
        finally:
            self.job = None

    def terminate(self) -> list[concurrent.futures.Future[Any]]:
        """Send SIGTERM, at which training stores a checkpoint; the job that will end, if any."""
        pool, job = self.pool, self.job
        if pool is None or job is None:
            return []
        for process in list(pool._processes.values()):
            with contextlib.suppress(OSError):
                process.terminate()
        return [job]

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
    """Initialise a process: its stdout becomes stderr, and it ends with the command.

    Ctrl-C reaches the command alone, which ends its processes by one SIGTERM each.
    """
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
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
