"""Who runs the cells of a grid, and who is told of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgm_bench.api.plugin import Plugin


class Executor(Plugin, ABC):
    """Runs independent cells. Function, cells and results are picklable."""

    @abstractmethod
    def map(self, function: Callable[[Any], Any], cells: Iterable[Any]) -> Iterator[Any]:
        """``function(cell)`` for each cell, in order; never stops because one of them failed."""


class Tracker(Plugin):
    """A logger: its life-cycle hooks (``@hookimpl`` methods) hear of every run it is asked to."""
