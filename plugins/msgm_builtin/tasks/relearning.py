"""Relearning: how soon a model knows again what it has forgotten."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from pydantic import Field, field_validator
from torch import Tensor

from msgm_bench import (
    Artifact,
    Conditioned,
    Cost,
    Examples,
    Model,
    ModelContext,
    Noise,
    Task,
    TaskOptions,
    Training,
    derive_seed,
    dsm_loss,
    hookimpl,
)
from msgm_builtin.tasks.likelihood import NODES, Likelihood
from msgm_builtin.tasks.skip_reasons import track_of

Source = Literal["base", "model", "forget", "retain"]
SOURCES: tuple[Source, ...] = get_args(Source)
IMAGES = 256  # drawn at once
PREVIEW_IMAGES, PREVIEW_POINTS = 8, 500
MOST_EXACT = 4  # dimensions in which the divergence is exact


@dataclass(frozen=True)
class Unit:
    """A model that is drawn from.

    Attributes:
        restart: Number of the restart.
        source: The base, the model as it is, or the split whose items a copy of it trains on.
        items: Items that it was trained on.
        steps: Steps of the training; 0: none.
    """

    restart: int
    source: Source
    items: int = 0
    steps: int = 0


class RelearningOptions(TaskOptions):
    """Budgets of items and steps, the training, and what is drawn after it."""

    batch_size: int = Field(1, ge=1, description="units drawn at once and stored together")
    items: tuple[int, ...] = Field(
        (64,), min_length=1, description="increasing numbers of items that it trains on, at most"
    )
    steps: tuple[int, ...] = Field(
        (5, 10, 20, 40), min_length=1, description="increasing numbers of training steps"
    )
    benign: bool = Field(
        True, description="whether copies also train on items of D_g, and on no other"
    )
    restarts: int = Field(3, ge=1, description="trainings with items and noise of their own")
    draws: int = Field(300, ge=1, description="samples behind a rate, spread over the restarts")
    learning_rate: float = Field(2e-4, gt=0, description="Adam's step size")
    train_batch: int = Field(64, ge=1, description="items of a step")
    guidance: float = Field(
        0.0, ge=0, description="w of (1 + w) eps(x, t, c) - w eps(x, t, null), with classes"
    )
    sampler: str = Field("dpmpp_2m_sde", description="name of a sampler")
    nfe: int = Field(
        32,
        ge=1,
        description="most evaluations of eps_hat a sample; with guidance each costs two passes",
    )
    sampler_options: Mapping[str, Any] = Field({}, description="further options of the sampler")
    nll_items: int = Field(
        4, ge=0, description="held-out items of D_f a restart whose likelihood is computed"
    )

    @field_validator("items", "steps")
    @classmethod
    def _increasing(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if any(b <= a for a, b in itertools.pairwise((0, *values))):
            raise ValueError("positive numbers that increase")
        return values

    def limit_samples(self, samples: int) -> dict[str, int]:
        """At most ``samples`` samples behind a rate, and at least one a restart."""
        return {"draws": min(samples, self.draws)}

    @property
    def restart_draws(self) -> int:
        """Samples of each trained model."""
        return -(-self.draws // self.restarts)


class Relearning(Task[RelearningOptions]):
    """Samples, and likelihoods of held-out items of D_f, after a few steps of training.

    A unit is one training, of ``steps`` steps of denoising score matching on ``items`` training
    items of D_f (with their class where the model has classes), from the model's weights with a
    new Adam; its steps are the first ones of every longer training. A second adversary trains on
    items of D_g alone: fine-tuning that means no harm, and brings back what was only hidden. Before
    them come the base model, which says what there was to know, and the model as it is, all on the
    same noise. A class-conditional model draws the classes of D_f in turn.
    """

    name = "relearning"
    citation = "Golatkar et al. 2020, arXiv:1911.04933, section 4 (relearn time)"
    on_request = True
    measures = True
    needs_base = True
    trains = True
    has_control = True

    def skip(self, model: Model) -> str | None:
        """Skip models that take prompts, which have a task of their own."""
        if track_of(model) == "text":
            return "relearning is for models without prompts: prompt_relearning is for these"
        return None

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The sampler."""
        options = {"nfe": self.options.nfe, **self.options.sampler_options}
        return {"samplers": (self.options.sampler, options)}

    def cost(self, model: Model) -> Cost:
        """Passes of a unit's samples, of its share of the training, and of its likelihoods.

        A step of training and a node of the likelihood cost three passes an item.
        """
        c = self.options
        passes = 2 if c.guidance and model.conditioning is not None else 1
        training = 3 * c.train_batch * max(c.steps) / len(c.steps)
        nll = 3 * NODES * c.nll_items
        return Cost(round(c.restart_draws * c.nfe * passes + training + nll))

    def protocol(self, context: ModelContext) -> dict[str, Any]:
        """The options; guidance where the model has classes."""
        settings = super().protocol(context)
        if context.model.conditioning is None:
            del settings["guidance"]
        return settings

    @property
    def units(self) -> list[Unit]:
        """For each restart the base, the model as it is, and the model after each training."""
        c = self.options
        learners: list[Source] = ["forget", "retain"] if c.benign else ["forget"]
        trainings = list(itertools.product(learners, c.items, c.steps))
        return [
            unit
            for restart in range(c.restarts)
            for unit in (
                Unit(restart, "base"),
                Unit(restart, "model"),
                *(Unit(restart, *training) for training in trainings),
            )
        ]

    def total(self, context: ModelContext) -> int:
        """Number of units."""
        return len(self.units)

    def draw(self, context: ModelContext, start: int, count: int) -> dict[str, Tensor]:
        """Units ``start .. start+count-1``, a row each.

        ``x`` ``[draws, *shape]``: samples in model space; ``y`` ``[draws]``: their classes, if the
        model has any; ``nats`` ``[nll_items]``: NLL of held-out items of D_f in model space,
        infinite where the integration failed, if the model has one; ``source`` (its position in
        ``SOURCES``), ``restart``, ``items`` and ``steps``.
        """
        rows = [self._row(context, unit) for unit in self.units[start : start + count]]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _row(self, context: ModelContext, unit: Unit) -> dict[str, Tensor]:
        """A unit's samples and likelihoods."""
        seen = replace(context, model=self._model(context, unit))
        columns = {
            "source": SOURCES.index(unit.source),
            "restart": unit.restart,
            "items": unit.items,
            "steps": unit.steps,
        }
        return {
            **self._samples(seen, unit.restart),
            **self._nats(seen, unit.restart),
            **{name: torch.tensor(value) for name, value in columns.items()},
        }

    def _model(self, context: ModelContext, unit: Unit) -> Model:
        """The base, or the model after some steps of training."""
        if unit.source == "base":
            assert context.base is not None
            return context.base
        if unit.source == "model":
            return context.model
        c, stream = self.options, (self.name, unit.source, unit.restart)
        budget = Training(
            steps=unit.steps, batch_size=c.train_batch, learning_rate=c.learning_rate, ema_decay=0.0
        )
        items = self._items(context, unit, derive_seed(context.seed, *stream, "items"))
        return context.trainer(
            dsm_loss, items, budget, derive_seed(context.seed, *stream, unit.items)
        )

    def _items(self, context: ModelContext, unit: Unit, seed: int) -> Examples:
        """Training items of the unit's split by chance; fewer ones are among more."""
        retain, forget = context.data.split(context.data.train, context.targets)
        split = forget if unit.source == "forget" else retain
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
        return split[order[: unit.items]].to(context.device)

    def _samples(self, context: ModelContext, restart: int) -> dict[str, Tensor]:
        """Samples of the restart's noise, and their classes."""
        n, model = self.options.restart_draws, context.model
        seed, first = derive_seed(context.seed, self.name), restart * n
        sampler = context.create("samplers", *self.uses()["samplers"])
        classes = torch.tensor(context.targets, device=context.device)
        y = classes[torch.arange(first, first + n, device=context.device) % len(classes)]
        parts = []
        for start in range(0, n, IMAGES):
            part = y[start : start + IMAGES]
            noise = Noise(seed, first + start, len(part), context.device)
            has_classes = model.conditioning is not None
            drawn = Conditioned(model, part, self.options.guidance) if has_classes else model
            parts.append(sampler.sample(drawn, noise).x)
        drawn_x = {"x": torch.cat(parts)}
        return drawn_x if model.conditioning is None else drawn_x | {"y": y}

    def _nats(self, context: ModelContext, restart: int) -> dict[str, Tensor]:
        """NLL of the restart's held-out items of D_f."""
        forget = context.forget
        count = min(self.options.nll_items, len(forget))
        likelihood = self.likelihood(context.model)
        if not count or likelihood.skip(context.model) is not None:
            return {}
        seed = derive_seed(context.seed, self.name, "held-out")
        order = torch.randperm(len(forget), generator=torch.Generator().manual_seed(seed))
        positions = torch.arange(restart * count, (restart + 1) * count) % len(forget)
        items = forget[order[positions].to(context.device)]
        return {"nats": likelihood.nats(context, items, restart * count, 0)[0]}

    def likelihood(self, model: Model) -> Likelihood:
        """The task that computes likelihoods."""
        divergence = "exact" if model.dim <= MOST_EXACT else "hutchinson"
        return Likelihood.create({"solver": "adams", "divergence": divergence, "check_items": 0})

    def preview(self, context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
        """A row for each unit of the first restart with the most items."""
        flat = context.model.shape == (2,)
        if not flat and len(context.model.shape) != 3:
            return {}
        most, rows = max(self.options.items), {}
        for i, unit in enumerate(self.units):
            if unit.restart == 0 and unit.items in (0, most):
                x = artifact["x"][i][: PREVIEW_POINTS if flat else PREVIEW_IMAGES]
                rows[caption(unit)] = context.model.codec.decode(x)
        return rows


def caption(unit: Unit) -> str:
    """What a row of a picture shows."""
    if not unit.steps:
        return "base model" if unit.source == "base" else "as it is"
    split = "D_f" if unit.source == "forget" else "D_g"
    return f"trained on {split}: {unit.steps} steps"


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Relearning."""
    return [Relearning]
