"""Training of copies of a model under evaluation."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from msgm_bench.api import Batches, Examples, LossFunction, LossMethod, Model, Training, digest
from msgm_bench.diffusion import derive_seed
from msgm_bench.storage import read_text, write_text
from msgm_bench.training import NoisedBatches, Runtime, Trainer
from msgm_bench.training.checkpoint import NAME as CHECKPOINT

OWNER = "checkpoint.owner"  # names the training that the checkpoint is of


@dataclass(frozen=True)
class CopyTrainer:
    """Trains copies of a model; the checkpoint of the one that is going on lies in ``folder``.

    Attributes:
        model: The model; it stays as it is.
        folder: Work folder of the stage.
        runtime: Device and precision.
        flip: Whether each image is mirrored left to right with probability 1/2.
    """

    model: Model
    folder: Path
    runtime: Runtime
    flip: bool = False

    def __call__(
        self,
        loss: LossFunction,
        items: Examples,
        budget: Training,
        seed: int,
        part: str = "all",
        encoded: bool = False,
    ) -> Model:
        """The trained copy (``ModelTrainer``)."""
        model = copy_for_training(self.model, part)
        batches = NoisedBatches(
            {"all": items},
            model,
            derive_seed(seed, "training"),
            budget.batch_size,
            self.flip,
            budget.label_dropout_prob,
            encoded,
        )
        trainer = Trainer(model, _Minimise(loss), batches, budget, self.runtime, seed)
        self._own_checkpoint(digest([seed, part, len(items), budget.model_dump(mode="json")]))
        trainer.run(self.folder, _silent)
        for name in (CHECKPOINT, OWNER):
            (self.folder / name).unlink(missing_ok=True)
        return model.requires_grad_(False)

    def _own_checkpoint(self, key: str) -> None:
        """Remove the checkpoint of another training, and name the one that begins."""
        owner = self.folder / OWNER
        if not owner.exists() or read_text(owner, limit=1000) != key:
            (self.folder / CHECKPOINT).unlink(missing_ok=True)
            write_text(owner, key)


def copy_for_training(model: Model, part: str) -> Model:
    """A copy of ``model`` that shares all tensors but those of ``part``; these alone train.

    Raises:
        OptionError: The network has no such part.
    """
    names = model.part(part)
    frozen = [p for name, p in model.network.named_parameters() if name not in names]
    shared = [*frozen, model.process, model.codec]
    trained = copy.deepcopy(model, {id(thing): thing for thing in shared})
    for name, parameter in trained.network.named_parameters():
        parameter.requires_grad_(name in names)
    return trained


class _Minimise(LossMethod):
    """Minimises a loss on its items."""

    name = "copy"
    needs = frozenset({"all"})
    baseline = True

    def __init__(self, loss: LossFunction) -> None:
        super().__init__()
        self._loss = loss

    def loss(self, model: Model, batches: Batches, step: int) -> Tensor:
        """The loss of the batch."""
        return self._loss(model, batches.all)


def _silent(done: int, total: int, values: Mapping[str, float], part: str = "", /) -> None:
    """Progress of a unit of an artifact is not announced."""
