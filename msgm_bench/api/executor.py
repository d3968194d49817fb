"""Executors: where the runs of a grid are computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgm_bench.api.plugin import OptionsT, Plugin


class Executor(Plugin[OptionsT], ABC):
    """Computes independent runs. Function, runs and results are picklable."""

    @abstractmethod
    def map(self, function: Callable[[Any], Any], runs: Iterable[Any]) -> Iterator[Any]:
        """``function(run)`` of each run, in order; a failure of one does not stop the others.

        If ``function`` raises or the worker dies, the exception is yielded in the place of the
        result. A KeyboardInterrupt is the user's and is raised.
        """
