"""A stage: a unit of work that its inputs determine, computed once and cached by its key."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from msgm_bench.api import digest
from msgm_bench.api.progress import ProgressCallback


@dataclass(frozen=True, eq=False)
class Stage(ABC):
    """A unit of work, written as a frozen dataclass of all that it reads.

    key = SHA-256(name, inputs, keys of the needs), which is the stage's address in the cache.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in progress, plans and provenance, such as ``draw generation``."""

    @cached_property
    @abstractmethod
    def inputs(self) -> Mapping[str, Any]:
        """All that determines the outcome beside the needs, JSON-ready, and nothing else."""

    @property
    def needs(self) -> Mapping[str, Stage]:
        """Stages that come before, by the names under which ``run`` receives their folders."""
        return {}

    @property
    def units(self) -> int:
        """Number of units of progress."""
        return 1

    @property
    def shared_on(self) -> str | None:
        """Type of the devices on which several processes run it together; None: one runs it."""
        return None

    @property
    def reason_not_to_share(self) -> str:
        """Why one process runs a stage that others of its kind share; empty: no need to say."""
        return ""

    @abstractmethod
    def run(self, work: Path, needs: Mapping[str, Path], report: ProgressCallback) -> None:
        """Write the outcome into a folder.

        Args:
            work: The folder, which still holds what an earlier, killed attempt left there.
            needs: Folders of the finished ``needs``.
            report: Receives progress.
        """

    def seconds(self, elapsed: float, needs: Mapping[str, Path]) -> float:
        """Time that the outcome took: ``elapsed``, unless one of the needs has done the work.

        Args:
            elapsed: Seconds of ``run``.
            needs: Folders of the finished ``needs``.
        """
        return elapsed

    @cached_property
    def key(self) -> str:
        """SHA-256 of name, inputs and the keys of the needs."""
        needs = {name: stage.key for name, stage in self.needs.items()}
        return digest({"name": self.name, "inputs": dict(self.inputs), "needs": needs})
