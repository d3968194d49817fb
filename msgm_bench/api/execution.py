"""Who runs the cells of a grid, and who hears of it."""

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


class Tracker(Plugin[OptionsT]):
    """A logger: its life-cycle hooks (``@hookimpl`` methods) hear of every run it is asked to.

    One that is chosen for a grid in workers is made anew in each of them, for every cell: it is
    told all that it needs by its options and by ``run_started``.
    """
