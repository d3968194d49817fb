"""Executors: where the runs of a grid are computed."""

from __future__ import annotations

import concurrent.futures
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from msgm_bench.api.plugin import OptionsT, Plugin


@dataclass(frozen=True)
class Resources:
    """What the runs of a grid ask of a worker.

    Attributes:
        threads: CPU threads; keys depend on the number, so a worker cannot choose another.
        gpu: Whether the runs use a GPU where the worker has one; false for ``--device cpu``.
        folder: A folder for files of the pool, which workers see under the same path; it is
            removed at the end.
    """

    threads: int
    gpu: bool
    folder: Path


class Executor(Plugin[OptionsT], ABC):
    """Opens pools of workers, which have the interface of Python's ``concurrent.futures``."""

    @abstractmethod
    def pool(self, resources: Resources) -> concurrent.futures.Executor:
        """A pool, whose ``submit(function, job)`` returns a future.

        Functions, jobs and outcomes are picklable. Where a function raises or its worker dies,
        the future has the exception, and other futures have their outcomes. A KeyboardInterrupt
        is the user's: the future has it, or ``submit`` raises it. ``shutdown`` with
        ``cancel_futures`` ends the workers, with a SIGTERM where it can, at which training
        stores a checkpoint.

        Raises:
            UsageError: The options ask for what is not there, or an extra is not installed;
                nothing was trained.
            MsgmBenchError: There are no workers now, such as where a scheduler does not answer.
        """
