"""The stage that trains a method."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from msgm_bench.api import Backbone, Examples, Model, Split
from msgm_bench.api.progress import ProgressCallback
from msgm_bench.cache.stage import Stage
from msgm_bench.diffusion import derive_seed
from msgm_bench.errors import DivergenceError
from msgm_bench.experiment.cache_key import common_inputs, plugin_identity
from msgm_bench.experiment.item_stages import ItemStage, training_splits
from msgm_bench.experiment.loaded_data import LoadedData
from msgm_bench.experiment.model_card import (
    Limits,
    PartCard,
)
from msgm_bench.experiment.model_io import add_part, load_model, save_model, weights_hash
from msgm_bench.experiment.model_stage import BASE, ModelStage
from msgm_bench.experiment.training_plan import TrainingPlan
from msgm_bench.ranks import current as current_ranks
from msgm_bench.storage import write_text
from msgm_bench.storage.tensors import load_tensors, save_tensors
from msgm_bench.training import NoisedBatches, Runtime, Trainer
from msgm_bench.training.checkpoint import NAME as CHECKPOINT

LOG, OPTIMIZER = "train.jsonl", "optimizer.safetensors"


@dataclass(frozen=True, eq=False)
class Train(ModelStage):
    """Train a method: from fresh weights, or from the base model's.

    Attributes:
        training: Method, regime, budget.
        backbone: Builds the network.
        loaded: The data.
        targets: Class indices of D_f.
        seeds: Seeds ``train`` (weights, baselines' batches) and ``unlearn`` (a method's batches).
        runtime: Device and precision.
        base: The stage of the base model, where the method starts from one or looks at one.
        saves_optimizer: Whether the optimiser's state stays, for another training to go on with.
        items: Stages that make the training items in model space; none where the data's own are
            encoded batch by batch.
    """

    training: TrainingPlan
    backbone: Backbone
    loaded: LoadedData
    targets: tuple[int, ...]
    seeds: Mapping[str, int]
    runtime: Runtime
    base: Stage | None = None
    saves_optimizer: bool = False
    items: tuple[ItemStage, ...] = ()

    @property
    def part_of(self) -> Stage | None:
        """The stage of the base model, where the weights hold a part of the network alone."""
        return self.base if self.training.part != "all" else None

    @property
    def name(self) -> str:
        """``train METHOD``."""
        return f"train {self.training.method.name}"

    @property
    def seed(self) -> int:
        """Seed of batches and noise: baselines are trained with the base model's."""
        return self.seeds["train" if self.training.method.baseline else "unlearn"]

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """Code, options, budget, seeds; D_f only where the method's batches depend on it."""
        training = self.training
        splits = training.method.needs - {BASE}
        inputs = common_inputs(self.loaded, self.runtime, "api", "diffusion", "training") | {
            "backbone": plugin_identity(self.backbone),
            "method": plugin_identity(training.method),
            "regime": training.regime,
            "budget": training.budget.model_dump(mode="json") | {"pass_items": training.pass_items},
            "targets": [] if splits == {"all"} else list(self.targets),
            "classes": self.loaded.stats.classes,
            "seed_weights": self.seeds["train"],
            "seed": self.seed,
        }
        return inputs | ({"saves_optimizer": True} if self.saves_optimizer else {})

    @property
    def needs(self) -> Mapping[str, Stage]:
        """The base model, where there is one, and the items."""
        base = {} if self.base is None else {BASE: self.base}
        return base | {stage.name: stage for stage in self.items}

    @property
    def units(self) -> int:
        """Passes or steps of the budget."""
        return self.training.budget.passes or self.training.budget.steps

    @property
    def shared_on(self) -> str | None:
        """The device's type; a closed form has no batches to share."""
        return None if self.training.method.closed_form else self.runtime.device.type

    @property
    def reason_not_to_share(self) -> str:
        """Why a closed form runs in one process."""
        method = self.training.method
        return f"{method.name} is a closed form without batches" if method.closed_form else ""

    def run(self, work: Path, needs: Mapping[str, Path], report: ProgressCallback) -> None:
        """Train, and write weights, card and log; the log stays where training fails, too.

        Of several processes the first one writes.
        """
        trainer = self._trainer(needs)
        if current_ranks().rank:
            trainer.run(work, report)
            return

        def save_optimizer() -> None:
            save_tensors(work / OPTIMIZER, trainer.continuation())

        on_step = self.observe(trainer, work, report)
        try:
            trainer.run(work, on_step, save_optimizer if self.saves_optimizer else None)
        except DivergenceError:
            (work / CHECKPOINT).unlink(missing_ok=True)  # it leads to the same end
            raise
        finally:
            rows = (json.dumps(_finite(row)) + "\n" for row in trainer.log.rows)
            write_text(work / LOG, "".join(rows))
        self._save(work, trainer.model, needs.get(BASE))
        (work / CHECKPOINT).unlink(missing_ok=True)

    def observe(self, trainer: Trainer, work: Path, report: ProgressCallback) -> ProgressCallback:
        """What the trainer calls after every step, in the first process: ``report`` alone."""
        return report

    def fresh_model(self) -> Model:
        """The model with weights from the training seed, drawn on the CPU whatever the device."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seeds["train"], "weights"))
            return self.backbone.build(self.loaded.stats)

    def copy_of_base(self, base: Model) -> Model:
        """A copy of the frozen base that shares every tensor but those that the method trains."""
        names = self.training.trained_parameters(base)
        frozen = {id(p): p for name, p in base.network.named_parameters() if name not in names}
        model = copy.deepcopy(base, {id(base.codec): base.codec, **frozen})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, "adapter"))
            add_part(self.backbone, model, self.training.part)
        names = self.training.trained_parameters(model)
        for name, parameter in model.network.named_parameters():
            parameter.requires_grad_(name in names)
        return model

    def _save(self, work: Path, model: Model, base: Path | None) -> None:
        """Write weights and card: of a partial training the part, known by the base's hash."""
        part, trained = None, frozenset[str]()
        if self.part_of is not None and base is not None:
            part = PartCard(name=self.training.part, base=weights_hash(base))
            trained = self.training.trained_parameters(model)
        limits = Limits.of(self.training.method, model)
        save_model(work, model, self.backbone, self.loaded.stats, limits, part, trained)

    def _trainer(self, needs: Mapping[str, Path]) -> Trainer:
        """The trainer with model, batches and optimiser, before the first step."""
        training, data, device = self.training, self.loaded.data, self.runtime.device
        base_folder = needs.get(BASE)
        base = None if base_folder is None else load_model(base_folder, device)
        if base is not None:
            base.requires_grad_(False)
        if base is not None and training.regime == "finetune":
            model = self.copy_of_base(base)
        else:
            model = self.fresh_model()
        self.runtime.place(model)
        self.runtime.round_frozen(model)
        budget, stream = training.budget, derive_seed(self.seed, "training")
        batches = NoisedBatches(
            self._splits(needs),
            model,
            stream,
            budget.batch_size,
            data.flip and not self.items,
            budget.label_dropout_prob,
            encoded=bool(self.items),
        )
        labels = data.labels(self.targets)
        place = (self.runtime, self.seed, base, labels, training.pass_items)
        trainer = Trainer(
            model,
            training.method,
            batches,
            budget,
            *place,
            concepts=self.targets,
            prompts=data.prompts,
        )
        if training.continues_optimizer and base_folder is not None:
            trainer.continue_from(load_tensors(base_folder / OPTIMIZER))
        return trainer

    def _splits(self, needs: Mapping[str, Path]) -> dict[Split, Examples]:
        """Training items of the splits that the method needs, on the device."""
        items = {stage.split: stage.load(needs[stage.name]) for stage in self.items}
        splits = training_splits(self.loaded.data, self.targets, items)
        wanted, device = self.training.method.needs, self.runtime.device
        return {name: split.to(device) for name, split in splits.items() if name in wanted}


def _finite(row: Mapping[str, float]) -> dict[str, float | None]:
    """The row with None for what JSON has no number for."""
    return {name: value if abs(value) < float("inf") else None for name, value in row.items()}
