"""Embedders: images to feature vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from msgm_bench.api.judge import Judge
from msgm_bench.api.plugin import OptionsT, Plugin


class Embedder(Plugin[OptionsT], ABC):
    """Maps images to feature vectors, for distances between images and between sets."""

    def missing_weights(self, judge: Judge) -> str | None:
        """Reason why its weights cannot be read on this machine, or None."""
        return None

    def checksum(self) -> str:
        """SHA-256 of the file of its weights; empty if it reads none, or if they are missing."""
        return ""

    def protocol(self) -> dict[str, Any]:
        """Settings that a value depends on, with the weights' checksum and without paths."""
        return {"name": self.name, "options": self.options.model_dump(mode="json")}

    def load(self, judge: Judge, device: torch.device) -> None:
        """Read the weights, or use the fitted judge.

        Raises:
            StorageError: The weights are damaged or have another checksum.
        """

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Features ``[N, F]`` of [0, 1] images ``[N, C, H, W]``; after ``load``."""
