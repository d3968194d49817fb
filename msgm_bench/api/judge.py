"""Judges say what an item shows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from msgm_bench.api.data import Data
from msgm_bench.api.plugin import Options, Plugin


@dataclass(frozen=True)
class Prediction:
    """What a judge says of N images or points.

    Attributes:
        classes: ``int64 [N]`` most likely class, or ``bool [N, A]`` which attributes it has.
        recognised: ``bool [N]`` whether the item looks like data at all.
    """

    classes: Tensor
    recognised: Tensor


class JudgeOptions(Options):
    """Options that every judge has."""

    gate: float = Field(
        0.9,
        ge=0,
        le=1,
        exclude=True,
        description="least quality; below it, values that rest on the judge are stamped",
    )


JudgeOptionsT = TypeVar("JudgeOptionsT", bound=JudgeOptions, default=JudgeOptions, covariant=True)


class Judge(Plugin[JudgeOptionsT], ABC):
    """Tells which class an item shows, or which attributes, and whether it shows anything.

    Attributes:
        report: What ``fit`` measured, JSON-ready; stored beside ``state``, and there again after
            ``restore``.
    """

    report: Mapping[str, Any] = {}

    @property
    def criterion(self) -> str:
        """What ``quality`` is, in words."""
        return "accuracy on held-out items"

    def missing(self) -> str | None:
        """Why it cannot judge here (its weights are not on this machine), or None."""
        return None

    def checksum(self) -> str:
        """SHA-256 of the weights that it reads from a file; empty where it reads none."""
        return ""

    def check(self, data: Data) -> None:
        """Refuse data before anything is trained; ``missing`` said nothing.

        Raises:
            UsageError: It cannot judge such items, or not with these options.
            StorageError: The weights that it reads are not what they should be.
        """

    def protocol(self) -> dict[str, Any]:
        """The settings that a value depends on, the weights' checksum among them; no paths."""
        given = {"weights": self.checksum()} if self.checksum() else {}
        return {"name": self.name, "options": self.options.model_dump(mode="json"), **given}

    @abstractmethod
    def fit(self, data: Data, seed: int, device: torch.device) -> None:
        """Learn from ``data.train``; leaves the accuracy on ``data.test`` in ``report``."""

    @abstractmethod
    def predict(self, x: Tensor) -> Prediction:
        """Judge ``x``: [0, 1] images ``[N, C, H, W]`` or points ``[N, D]``."""

    def features(self, x: Tensor) -> Tensor | None:
        """Features ``[N, F]`` of what ``predict`` takes, or None where it has none."""
        return None

    def quality(self, targets: Sequence[int]) -> float | None:
        """What the gate is compared with, from ``report``: a share in [0, 1].

        Args:
            targets: Indices of the classes or attributes to be forgotten.

        Returns:
            None where it could not be measured.
        """
        found: float | None = self.report.get("accuracy")
        return found

    def state(self) -> dict[str, Tensor]:
        """What ``fit`` learned."""
        return {}

    def restore(self, data: Data, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Undo ``state``."""
