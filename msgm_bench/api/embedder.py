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

    def missing(self, judge: Judge) -> str | None:
        """Why it cannot embed here (its weights are not on this machine), or None."""
        return None

    def checksum(self) -> str:
        """SHA-256 of the weights that it reads; empty where there are none, or none here."""
        return ""

    def protocol(self) -> dict[str, Any]:
        """The settings that a value depends on, the weights' checksum among them; no paths."""
        return {"name": self.name, "options": self.options.model_dump(mode="json")}

    def load(self, judge: Judge, device: torch.device) -> None:
        """Get ready: read the weights, or take the fitted judge.

        Raises:
            StorageError: The weights are not what they should be.
        """

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Features ``[N, F]`` of [0, 1] images ``[N, C, H, W]``; ``load`` came before."""
