"""Relearning of prompts: how soon a model knows a forgotten concept again."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Tensor

from msgm_bench import (
    Artifact,
    Cost,
    Data,
    Model,
    ModelContext,
    Task,
    Training,
    derive_seed,
    dsm_loss,
    hookimpl,
)
from msgm_builtin.tasks.skip_reasons import skip_other_tracks
from msgm_text.tasks.attack_draws import DrawOptions, Draws, embed, increasing
from msgm_text.tasks.attack_images import training_items
from msgm_text.tasks.attack_prompts import attacked_prompts, book_of

PREVIEW_IMAGES = 8
STREAM = "relearning"  # of noise


@dataclass(frozen=True)
class Unit:
    """A model that is drawn from.

    Attributes:
        restart: Number of the restart.
        items: Items that it was trained on.
        steps: Steps of the training; 0: none.
        of_base: Whether it is the base model.
    """

    restart: int
    items: int
    steps: int
    of_base: bool = False


class PromptRelearningOptions(DrawOptions):
    """Budgets of items and steps, and the training."""

    items: tuple[int, ...] = Field(
        (32, 256), min_length=1, description="increasing numbers of items that it trains on"
    )
    steps: tuple[int, ...] = Field(
        (5, 10, 20, 40), min_length=1, description="increasing numbers of training steps"
    )
    restarts: int = Field(1, ge=1, description="trainings with items and noise of their own")
    draws: int = Field(100, ge=1, description="images of each trained model")
    learning_rate: float = Field(1e-5, gt=0, description="Adam's step size")
    train_batch: int = Field(16, ge=1, description="items of a step")
    weights: str = Field(
        "auto",
        max_length=64,
        description="part of the network that is trained; auto: all but a text encoder",
    )

    _increasing = field_validator("items", "steps")(increasing)

    def limit_samples(self, samples: int) -> dict[str, int]:
        """At most ``samples`` images of each trained model."""
        return {"draws": min(samples, self.draws)}


class PromptRelearning(Task[PromptRelearningOptions]):
    """Images of the concept's prompts after a few steps of training on a few of its items.

    A unit is one training, of ``steps`` steps on ``items`` items, from the model's weights; its
    steps are the first ones of every longer training. The items are captioned training items of
    D_f; where the data have none, the base model draws them. Before them come the base model,
    which says what there was to know, and the model as it is, all on the same noise.
    """

    name = "prompt_relearning"
    citation = "Golatkar et al. 2020, arXiv:1911.04933, section 4 (relearn time)"
    needs_base = True
    needs_judge = True
    trains = True
    has_control = True
    presets = {
        "quick": {
            "tasks": {"prompt_relearning": {"nfe": 25, "learning_rate": 3e-4, "items": (128,)}},
        },
        "paper": {"tasks": {"prompt_relearning": {"guidance": 6.5, "nfe": 100}}},
    }

    def skip(self, model: Model) -> str | None:
        """Skip models of other tracks."""
        return skip_other_tracks(self.name, model, "text")

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The sampler."""
        return self.options.samplers

    def check(self, model: Model) -> None:
        """Refuse a part that the network does not have.

        Raises:
            OptionError: It has no such part.
        """
        model.part(self._part(model))

    def check_data(self, data: Data, targets: Sequence[int]) -> None:
        """Refuse prompts that name no target.

        Raises:
            UsageError: There is nothing to learn again.
        """
        book_of(data)
        attacked_prompts(data, targets, with_word=True)

    def cost(self, model: Model) -> Cost:
        """Passes of the images of a unit; a step costs three passes an item."""
        c = self.options
        return Cost(c.draws * c.passes + 3 * c.train_batch * max(c.steps))

    @property
    def units(self) -> list[Unit]:
        """For each restart the base, the model as it is, and the model after each training."""
        c = self.options
        trainings = list(itertools.product(c.items, c.steps))
        return [
            unit
            for restart in range(c.restarts)
            for unit in (
                Unit(restart, 0, 0, of_base=True),
                Unit(restart, 0, 0),
                *(Unit(restart, items, steps) for items, steps in trainings),
            )
        ]

    def total(self, context: ModelContext) -> int:
        """Number of units."""
        return len(self.units)

    def draw(self, context: ModelContext, start: int, count: int) -> dict[str, Tensor]:
        """Units ``start .. start+count-1``, a row each.

        ``x`` ``[draws, *shape]``: images in model space; ``concept`` ``[draws]``: what each is
        searched for; ``of_base``; ``restart``, ``items`` and ``steps`` of the training.
        """
        units = [self._images(context, unit) for unit in self.units[start : start + count]]
        return {name: torch.stack([unit[name] for unit in units]) for name in units[0]}

    def _images(self, context: ModelContext, unit: Unit) -> dict[str, Tensor]:
        """Images of the target prompts in turn."""
        prompts = attacked_prompts(context.data, context.targets, with_word=True)
        which = prompts.turns(self.options.draws)
        texts = [prompts.texts[i] for i in which.tolist()]
        draws = Draws(context, self.options, STREAM)
        model = self._model(context, draws, unit)
        return {
            "x": draws.images(embed(model, texts), "images", unit.restart, model=model),
            "concept": prompts.concepts[which],
            **{name: torch.tensor(value) for name, value in asdict(unit).items()},
        }

    def _model(self, context: ModelContext, draws: Draws, unit: Unit) -> Model:
        """The base, or the model after some steps of training on items of the concept."""
        if unit.of_base:
            assert context.base is not None
            return context.base
        if not unit.steps:
            return context.model
        c, stream = self.options, (STREAM, unit.items, unit.restart)
        seed = derive_seed(context.seed, *stream)
        examples, encoded = training_items(context, draws, unit.items, seed)
        budget = Training(
            steps=unit.steps, batch_size=c.train_batch, learning_rate=c.learning_rate, ema_decay=0.0
        )
        part = self._part(context.model)
        return context.trainer(dsm_loss, examples, budget, seed, part, encoded)

    def _part(self, model: Model) -> str:
        """The part of the network that is trained."""
        if self.options.weights != "auto":
            return self.options.weights
        return "unet" if "unet" in model.parts else "all"

    def preview(self, context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
        """A row for each number of steps on the most items."""
        most = max(self.options.items)
        rows = {}
        for i, unit in enumerate(self.units):
            if unit.restart == 0 and not unit.of_base and unit.items in (0, most):
                x = artifact["x"][i][:PREVIEW_IMAGES]
                rows[f"after {unit.steps} steps"] = context.model.codec.decode(x)
        return rows


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Relearning of prompts."""
    return [PromptRelearning]
