"""Drift: how far a model's noise prediction has moved from that of its base."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import (
    Conditioned,
    Cost,
    Model,
    ModelContext,
    Noise,
    PluginError,
    Task,
    derive_seed,
    hookimpl,
)
from msgm_text.tasks.prompt_sets import book_of
from msgm_text.tasks.prompt_task import PromptTask, PromptTaskOptions, conditions


class DriftOptions(PromptTaskOptions):
    """Numbers of items, and how their clean images are drawn from the base."""

    guidance: float = Field(
        0.0, ge=0, description="w of the base's clean images; the drift itself is without guidance"
    )
    images_per_group: int | None = Field(
        200, ge=1, description="most items of a group of prompts, spread evenly; empty: no limit"
    )


class Drift(PromptTask[DriftOptions]):
    """|eps_hat - eps_hat_base|^2 / D at the same x_t, for the prompts that test a concept.

    x_t = a(t) x0 + sigma(t) eps at times t as in training, with x0 drawn by the base from the
    prompt. Noise and times depend on (seed, i) alone and x0 on the base, so that all methods of a
    board are compared at the same points.
    """

    name = "drift"
    measures = True
    needs_base = True
    presets = {"quick": {"tasks": {"drift": {"images_per_group": 60, "nfe": 10}}}}

    def cost(self, model: Model) -> Cost:
        """The base's sampler, and one evaluation of each model."""
        return Cost(super().cost(model).nfe + 2)

    def draw(self, context: ModelContext, start: int, count: int) -> dict[str, Tensor]:
        """Of each item: ``prompt``, its index in the book; ``drift`` and ``base``, in squares.

        ``drift`` is |eps_hat - eps_hat_base|^2 / D and ``base`` |eps_hat_base|^2 / D.
        """
        base, model, device = context.base, context.model, context.device
        if base is None:
            raise PluginError(f"task {self.name!r} without a base model", "a context with a base")
        book, prompts = book_of(context.data), self.items(context)[start : start + count, 0]
        texts = [book[i].text for i in prompts.tolist()]
        c, c_base = (conditions(m, texts, device) for m in (model, base))
        w = self.options.guidance
        sampler = context.create("samplers", *self.uses()["samplers"])
        noise = Noise(derive_seed(context.seed, self.name, "x0"), start, count, device)
        samples = sampler.sample(Conditioned(base, c_base, w), noise)
        noise = Noise(derive_seed(context.seed, self.name), start, count, device)
        t = model.process.sample_times(noise.uniform(()))
        x_t = model.process.perturb(samples.x, t, noise.normal(model.shape))
        eps, eps_base = model.eps(x_t, t, c), base.eps(x_t, t, c_base)
        return {
            "prompt": prompts,
            "drift": (eps - eps_base).square().flatten(1).mean(dim=1),
            "base": eps_base.square().flatten(1).mean(dim=1),
            "nfe": torch.full((count,), samples.nfe * (2 if w else 1) + 2),
        }


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Drift."""
    return [Drift]
