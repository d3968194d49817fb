"""Judges: classifiers of samples."""

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
    """Classes that a judge predicts for N images or points.

    Attributes:
        classes: ``int64 [N]`` most likely class, or ``bool [N, A]`` attributes of the item.
        recognised: ``bool [N]`` whether the item looks like data.
        objects: ``bool [N, O, A]`` attributes of each of at most O objects in an item, all False
            of those that are not there; None of judges that tell no objects apart.
    """

    classes: Tensor
    recognised: Tensor
    objects: Tensor | None = None


class JudgeOptions(Options):
    """Options that every judge has."""

    gate: float = Field(
        0.9,
        ge=0,
        le=1,
        exclude=True,
        description="smallest quality; below it, values that depend on the judge are stamped",
    )


JudgeOptionsT = TypeVar("JudgeOptionsT", bound=JudgeOptions, default=JudgeOptions, covariant=True)


class Judge(Plugin[JudgeOptionsT], ABC):
    """Predicts the class or the attributes of an item, and whether it looks like data.

    Attributes:
        report: Measurements of ``fit``, JSON-ready; stored beside ``state`` and set again by
            ``restore``'s caller.
    """

    report: Mapping[str, Any] = {}

    @property
    def criterion(self) -> str:
        """Description of ``quality`` for tables and errors."""
        return "accuracy on held-out items"

    def missing_weights(self) -> str | None:
        """Reason why its weights cannot be read on this machine, or None."""
        return None

    def checksum(self) -> str:
        """SHA-256 of the file of its weights; empty if it reads none."""
        return ""

    def check(self, data: Data) -> None:
        """Refuse data before anything is trained; called if ``missing`` is None.

        Raises:
            UsageError: It cannot judge such items, or not with these options.
            StorageError: The weights that it reads are not what they should be.
        """

    def protocol(self) -> dict[str, Any]:
        """Settings that a value depends on, with the weights' checksum and without paths."""
        weights = {"weights": self.checksum()} if self.checksum() else {}
        return {"name": self.name, "options": self.options.model_dump(mode="json"), **weights}

    @abstractmethod
    def fit(self, data: Data, seed: int, device: torch.device) -> None:
        """Train on ``data.train``; ``report`` holds the accuracy on ``data.test`` afterwards."""

    @abstractmethod
    def predict(self, x: Tensor) -> Prediction:
        """Predictions for ``x``: [0, 1] images ``[N, C, H, W]`` or points ``[N, D]``."""

    def features(self, x: Tensor) -> Tensor | None:
        """Features ``[N, F]`` of ``x`` (as in ``predict``), or None if it has none."""
        return None

    def quality(self, targets: Sequence[int]) -> float | None:
        """The value in [0, 1] that the gate is compared with, from ``report``.

        Args:
            targets: Indices of the classes or attributes to be forgotten.

        Returns:
            None if it could not be measured.
        """
        accuracy: float | None = self.report.get("accuracy")
        return accuracy

    def state(self) -> dict[str, Tensor]:
        """Tensors that ``fit`` has learned, by name."""
        return {}

    def restore(self, data: Data, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Set the judge up from a ``state``, in the place of ``fit``."""
