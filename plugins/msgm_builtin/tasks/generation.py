"""Unconditional generation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import (
    Artifact,
    Cost,
    CountOptions,
    Model,
    ModelContext,
    Noise,
    Task,
    derive_seed,
    hookimpl,
)
from msgm_builtin.tasks.skip_reasons import skip_other_tracks

PREVIEW_IMAGES, PREVIEW_POINTS = 100, 4000


class GenerationOptions(CountOptions):
    """Sampler and number of samples."""

    sampler: str = Field("heun", description="name of a sampler")
    nfe: int = Field(1000, ge=1, description="most network evaluations a sample")
    sampler_options: Mapping[str, Any] = Field({}, description="further options of the sampler")


class Generation(Task[GenerationOptions]):
    """Unconditional samples, from noise that all methods of a board share."""

    name = "generation"

    def skip(self, model: Model) -> str | None:
        """Skip models of other tracks."""
        return skip_other_tracks(self.name, model, "unconditional")

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The sampler."""
        options = {"nfe": self.options.nfe, **self.options.sampler_options}
        return {"samplers": (self.options.sampler, options)}

    def cost(self, model: Model) -> Cost:
        """The sampler's budget."""
        return Cost(self.options.nfe)

    def total(self, context: ModelContext) -> int:
        """The option ``count``."""
        count: int = self.options.count
        return count

    def draw(self, context: ModelContext, start: int, count: int) -> dict[str, Tensor]:
        """``x``: samples in model space; ``nfe``: network evaluations of each."""
        seed = derive_seed(context.seed, "generation")
        noise = Noise(seed, start, count, context.device)
        sampler = context.create("samplers", *self.uses()["samplers"])
        samples = sampler.sample(context.model, noise)
        return {"x": samples.x, "nfe": torch.full((count,), samples.nfe)}

    def preview(self, context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
        """One row of samples."""
        flat = context.model.shape == (2,)
        if not flat and len(context.model.shape) != 3:
            return {}
        x = artifact["x"][: PREVIEW_POINTS if flat else PREVIEW_IMAGES]
        return {"samples": context.model.codec.decode(x)}


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Generation."""
    return [Generation]
