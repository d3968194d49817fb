"""What the processes of one run exchange while they work together."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from msgm_bench.errors import MsgmBenchError, RankError, shorten
from msgm_bench.launch import Launch, launched

if TYPE_CHECKING:
    from torch import Tensor

JOINING = timedelta(minutes=5)  # until all processes have met
ANSWER = timedelta(minutes=10)  # of a process in the midst of a step
IDLE = timedelta(days=30)  # of those that wait for work; the end of a process is noticed at once
REPEAT = "repeat the command: it goes on from what is done"


class Ranks:
    """The processes that work together at present: this one alone.

    Attributes:
        rank: Of this process, 0 .. count-1.
        count: Number of processes.
    """

    rank, count = 0, 1

    def sum_(self, tensor: Tensor) -> None:
        """Put the sum of the processes' tensors in the place of each, to the same bits."""

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true in any process."""
        return flag

    def gather(self, value: Any) -> list[Any]:
        """The picklable values of all processes, in their order."""
        return [value]

    def barrier(self) -> None:
        """Wait for all processes, however long their share takes."""


class _Group(Ranks):
    """Several processes.

    Args:
        launch: This process among them.
        device_type: Where the tensors are; on ``cuda`` each process has a GPU of its own.
    """

    def __init__(self, launch: Launch, device_type: str) -> None:
        import torch
        import torch.distributed as dist

        self.rank, self.count = launch.rank, launch.count
        self._dist, self._torch = dist, torch
        with _answered():
            self._patient: Any = dist.new_group(backend="gloo", timeout=IDLE)
            self._prompt: Any = dist.new_group(backend="gloo", timeout=ANSWER)
            self._tensors: Any = self._prompt
            if device_type == "cuda":
                self._tensors = dist.new_group(backend="nccl", timeout=ANSWER)

    def sum_(self, tensor: Tensor) -> None:
        """All-reduce in place."""
        with _answered():
            self._dist.all_reduce(tensor, group=self._tensors)

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true in any process."""
        count = self._torch.tensor(int(flag))
        with _answered():
            self._dist.all_reduce(count, group=self._prompt)
        return bool(count)

    def gather(self, value: Any) -> list[Any]:
        """The picklable values of all processes, in their order."""
        return _gather(value, self.count, self._prompt)

    def barrier(self) -> None:
        """Wait for all processes, however long their share takes."""
        with _answered():
            self._dist.all_reduce(self._torch.zeros(()), group=self._patient)

    def close(self) -> None:
        """Close all connections, once: who waits for this process hears of it."""
        groups = {self._patient, self._prompt, self._tensors} - {None}
        self._patient = self._prompt = self._tensors = None
        for group in groups:  # without one of them, destroy_process_group would end all
            with contextlib.suppress(RuntimeError):
                self._dist.destroy_process_group(group)


ALONE = Ranks()
_peer_ended = threading.Event()
_current: ContextVar[Ranks] = ContextVar("ranks", default=ALONE)


def current() -> Ranks:
    """The processes that work together on the stage at hand; this one alone outside of it."""
    return _current.get()


@contextlib.contextmanager
def at_work(device_type: str) -> Iterator[None]:
    """A block that all processes enter, in which they work together, and leave together.

    Args:
        device_type: Where the tensors are that they sum.

    Raises:
        RankError: A process has ended or does not answer.
        MsgmBenchError: The block failed in another process; its reason.
        KeyboardInterrupt: Any of them was interrupted.
    """
    launch = launched()
    if launch.count == 1:
        yield
        return
    control = _control()
    group = _Group(launch, device_type)
    token = _current.set(group)
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - raised again when all have left the block
        failure = error
    _current.reset(token)
    if failure is not None:
        group.close()
    try:
        reports = _gather(_report(failure), launch.count, control)
    except RankError as error:
        raise (failure or error) from error
    group.close()
    _raise_worst(failure, reports)


def has_lost_another() -> bool:
    """Whether another process has ended or hangs, so that this one is about to end as well."""
    return _peer_ended.is_set()


_INTERRUPTED, _UNANSWERED = "interrupted", "unanswered"


def _report(failure: BaseException | None) -> tuple[str, str]:
    """What the others hear of this process's end of a block: (kind, reason)."""
    if failure is None:
        return "", ""
    if isinstance(failure, KeyboardInterrupt):
        return _INTERRUPTED, ""
    if isinstance(failure, RankError):
        return _UNANSWERED, str(failure)
    if isinstance(failure, MsgmBenchError):
        return "failed", str(failure)
    return "failed", f"{type(failure).__name__}: {shorten(str(failure), 300)}"


def _raise_worst(failure: BaseException | None, reports: list[tuple[str, str]]) -> None:
    """An interruption; else this process's own failure; else another's."""
    if any(kind == _INTERRUPTED for kind, _ in reports):
        raise KeyboardInterrupt from failure
    if failure is not None and not isinstance(failure, RankError):
        raise failure
    for rank, (kind, reason) in enumerate(reports):
        if kind == "failed":
            raise MsgmBenchError(f"process {rank} failed: {reason}", hint=REPEAT) from failure
    if failure is not None:
        raise failure
    if any(kind for kind, _ in reports):
        raise RankError("two processes of this run lost each other", hint=REPEAT)


def broadcast(value: Any = None) -> Any:
    """The picklable value of the process that leads, in all of them; the others wait for it.

    Raises:
        RankError: The process that leads has ended.
    """
    import torch.distributed as dist

    values, control = [value], _control()
    with _answered():
        dist.broadcast_object_list(values, src=0, group=control)
    return values[0]


@cache
def _control() -> Any:
    """The group by which processes agree on what to do; made when all have met.

    Raises:
        RankError: They do not find each other.
    """
    import torch.distributed as dist

    try:
        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=JOINING)
            atexit.register(_leave)
        return dist.new_group(backend="gloo", timeout=IDLE)
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
        raise RankError(
            f"the processes of this run do not find each other at {shorten(where)}",
            "MASTER_ADDR and MASTER_PORT of the first one, as torchrun sets them",
        ) from error


def _leave() -> None:
    import torch.distributed as dist

    with contextlib.suppress(RuntimeError):
        if dist.is_initialized():
            dist.destroy_process_group()


def _gather(value: Any, count: int, group: Any) -> list[Any]:
    import torch.distributed as dist

    values = [None] * count
    with _answered():
        dist.all_gather_object(values, value, group=group)
    return values


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    """Errors of torch.distributed inside the block are those of another process.

    Raises:
        RankError: It has ended or does not answer.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        _peer_ended.set()
        raise RankError("another process of this run has ended or hangs", hint=REPEAT) from error
