"""The stages that take a model that is trained already: a base, a run's model, a changed base."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from msgm_bench.api import Backbone, DataStats
from msgm_bench.api.progress import ProgressCallback
from msgm_bench.cache.stage import Stage
from msgm_bench.errors import StorageError
from msgm_bench.experiment.cache_key import plugin_identity
from msgm_bench.experiment.loaded_data import LoadedData
from msgm_bench.experiment.model_card import BASE_FOLDER, CARD, PartCard, read_card
from msgm_bench.experiment.model_io import copy_model, load_model, save_model, weights_hash
from msgm_bench.experiment.model_stage import BASE, ModelStage
from msgm_bench.experiment.pretrained import BaseCheckpoint, load_pretrained, store_pretrained
from msgm_bench.storage import write_text


@dataclass(frozen=True, eq=False)
class TakeBase(ModelStage):
    """Take a base checkpoint, which is known by the hash of its weights; nothing is trained.

    Attributes:
        checkpoint: The checkpoint.
        backbone: Builds the network.
        loaded: The data.
    """

    checkpoint: BaseCheckpoint
    backbone: Backbone
    loaded: LoadedData

    @property
    def name(self) -> str:
        """``take the base``."""
        return "take the base"

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """Hash of the weights, backbone, statistics of the data, process; never the path."""
        return {
            "weights": self.checkpoint.sha256,
            "backbone": plugin_identity(self.backbone),
            "data": self.loaded.stats.record(),
            "process": self.backbone.process(self.loaded.stats).spec(),
        }

    def run(self, work: Path, needs: Mapping[str, Path], report: ProgressCallback) -> None:
        """Copy weights, and write a card for them."""
        source, stats = self.checkpoint.source, self.loaded.stats
        network = load_pretrained(self.backbone, source, stats, download=False)
        _check_hash(source, network.sha256, self.checkpoint.sha256)
        store_pretrained(network, stats, work)


@dataclass(frozen=True, eq=False)
class TakeModel(ModelStage):
    """Take the trained model that is to be evaluated; nothing is trained.

    Attributes:
        folder: Folder of the model.
        backbone: Builds the network.
        stats: Statistics of the data, whose prompts take the place of the model's.
        base: The stage of its base model, where it holds a part and has no base of its own.
    """

    folder: Path
    backbone: Backbone
    stats: DataStats
    base: Stage | None = None

    @property
    def part_of(self) -> Stage | None:
        """The stage of the base model, where the weights hold a part of the network alone."""
        return self.base

    @property
    def name(self) -> str:
        """``take the model``."""
        return "take the model"

    @cached_property
    def card(self) -> dict[str, Any]:
        """Content of the model's card, with the prompts of the data."""
        card: dict[str, Any] = read_card(self.folder).model_dump(mode="json", exclude_unset=True)
        if self.stats.prompts is not None:
            card["data"]["prompts"] = list(self.stats.prompts)
        return card

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """Hash of the weights, card, backbone; never the path."""
        sha256 = weights_hash(self.folder)
        return {"weights": sha256, "card": self.card, "backbone": plugin_identity(self.backbone)}

    @property
    def needs(self) -> Mapping[str, Stage]:
        """The base model, where it has none of its own."""
        return {} if self.base is None else {BASE: self.base}

    def run(self, work: Path, needs: Mapping[str, Path], report: ProgressCallback) -> None:
        """Copy weights, card and assets, and those of a base model beside them."""
        if "part" in self.card and self.base is None:
            copy_model(self.folder / BASE_FOLDER, work / BASE_FOLDER)
        copy_model(self.folder, work)
        _check_hash(str(self.folder), weights_hash(work), self.inputs["weights"])
        write_text(work / CARD, json.dumps(self.card, indent=1, sort_keys=True) + "\n")


@dataclass(frozen=True, eq=False)
class TakeChange(ModelStage):
    """Take a file of another program that changes a base model; nothing is trained.

    Attributes:
        source: The file, or a folder with it.
        sha256: Hash of the file.
        backbone: Reads it.
        stats: Statistics of the data.
        base: The stage of the base model.
    """

    source: Path
    sha256: str
    backbone: Backbone
    stats: DataStats
    base: Stage

    @property
    def part_of(self) -> Stage | None:
        """The stage of the base model."""
        return self.base

    @property
    def name(self) -> str:
        """``take the change``."""
        return "take the change"

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """Hash of the file, backbone; never the path."""
        return {"change": self.sha256, "backbone": plugin_identity(self.backbone)}

    @property
    def needs(self) -> Mapping[str, Stage]:
        """The base model."""
        return {BASE: self.base}

    def run(self, work: Path, needs: Mapping[str, Path], report: ProgressCallback) -> None:
        """Write the weights that change, and a card for them."""
        model = load_model(needs[BASE], torch.device("cpu"))
        change = self.backbone.read_change(self.source, model)
        _check_hash(str(self.source), change.sha256, self.sha256)
        model.network.load_state_dict(change.weights, strict=False)
        part = PartCard(name="all", base=weights_hash(needs[BASE]))
        save_model(work, model, self.backbone, self.stats, part=part, trained=change.weights)


def _check_hash(source: str, sha256: str, expected: str) -> None:
    """Refuse weights that are no longer those of the plan."""
    if sha256 != expected:
        raise StorageError(
            f"the weights of {source} have changed since the run began",
            hint="leave the file alone and repeat the command",
        )
