"""Executors: who runs the cells of a grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgm_bench.api.plugin import OptionsT, Plugin


class Executor(Plugin[OptionsT], ABC):
    """Runs independent cells. Function, cells and results are picklable."""

    @abstractmethod
    def map(self, function: Callable[[Any], Any], cells: Iterable[Any]) -> Iterator[Any]:
        """``function(cell)`` for each cell, in order; never stops because one of them failed.

        Where ``function`` raised, or the worker died, the exception stands in the place of the
        result; a KeyboardInterrupt is the user's, and is raised.
        """
