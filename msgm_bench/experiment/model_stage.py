"""The base of stages that make a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from msgm_bench.api import Model
from msgm_bench.cache.stage import Stage
from msgm_bench.experiment.model_io import load_model

BASE, MODEL = "base", "model"


class ModelStage(Stage):
    """A stage that makes a model."""

    @property
    def part_of(self) -> Stage | None:
        """The stage of the base model, where the weights hold a part of the network alone."""
        return None

    @property
    def files(self) -> dict[str, Stage]:
        """The stages whose folders hold the model, by the names under which ``load`` takes them."""
        base = {} if self.part_of is None else {BASE: self.part_of}
        return {MODEL: self, **base}

    @staticmethod
    def load(folders: Mapping[str, Path], device: torch.device) -> Model:
        """The model from the folders of ``files``, in evaluation mode."""
        return load_model(folders[MODEL], device, folders.get(BASE))
