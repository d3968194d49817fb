"""Training of copies of a model under evaluation."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from msgm_bench.api import Batches, Examples, LossFunction, LossMethod, Model, Training, digest
from msgm_bench.diffusion import derive_seed
from msgm_bench.errors import DivergenceError
from msgm_bench.storage import read_text, write_text
from msgm_bench.training import NoisedBatches, Runtime, Trainer
from msgm_bench.training.checkpoint import NAME as CHECKPOINT

OWNER = "checkpoint.owner"  # names the training that the checkpoint is of, and its steps


@dataclass(frozen=True)
class CopyTrainer:
    """Trains copies of a model; the checkpoint of the latest one lies in ``folder``.

    A training that a longer one repeats, as the first of its steps, is not done again: the longer
    one goes on from the checkpoint, which is what a killed one does, too. ``remove_checkpoint``
    takes it away after the last one.

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
        """The trained copy (``ModelTrainer``).

        Raises:
            DivergenceError: The training of the copy diverged.
        """
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
        key = digest([seed, part, len(items), course_of(budget)])
        self._own_checkpoint(key, budget.steps)
        try:
            trainer.run(self.folder, _silent, lambda: trainer.store(self.folder))
        except DivergenceError as error:
            raise DivergenceError(
                f"the copy that a task trains, and not the model: {error.what}",
                error.allowed,
                f"a smaller learning rate of the task than {budget.learning_rate:g}",
            ) from error
        return model.requires_grad_(False)

    def _own_checkpoint(self, key: str, steps: int) -> None:
        """Remove the checkpoint of another or of a longer training, and name the one that begins.

        Args:
            key: The training but for its length.
            steps: Its steps; a checkpoint that stays is of no later one.
        """
        owner = self.folder / OWNER
        known, _, length = (read_text(owner, limit=1000) if owner.exists() else "").partition(" ")
        if known != key or int(length) > steps:
            (self.folder / CHECKPOINT).unlink(missing_ok=True)
        write_text(owner, f"{key} {steps}")


def course_of(budget: Training) -> dict[str, Any]:
    """What step k of a training depends on: not the number of steps, if its rate does not."""
    is_open = budget.lr_schedule == "constant" and budget.passes is None
    return budget.model_dump(mode="json", exclude={"steps"} if is_open else set())


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of the copies that were trained in ``folder``."""
    for name in (CHECKPOINT, OWNER):
        (folder / name).unlink(missing_ok=True)


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
