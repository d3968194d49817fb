"""Progress of long work: one signature for training, drawing and every other stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class ProgressCallback(Protocol):
    """Receives progress: units done of a total, values to log, and the part of the stage."""

    def __call__(
        self, done: int, total: int, values: Mapping[str, float], part: str = "", /
    ) -> None:
        """A unit is done."""
