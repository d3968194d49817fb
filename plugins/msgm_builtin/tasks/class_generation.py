"""Class-conditional generation: the task of the conditional track."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import (
    Artifact,
    Conditioned,
    Cost,
    Model,
    ModelContext,
    Noise,
    Task,
    TaskOptions,
    derive_seed,
    hookimpl,
)
from msgm_builtin.tasks.skip_reasons import skip_other_tracks

PREVIEW_SAMPLES = 10  # of each class in a picture


class ClassGenerationOptions(TaskOptions):
    """Sampler, guidance and numbers of samples."""

    per_class: int = Field(5_000, ge=1, description="number of samples of a class")
    per_forget_class: int | None = Field(
        None,
        ge=1,
        description="number of samples of a class to forget; empty: as many as of the others",
    )
    guidance: float = Field(2.0, ge=0, description="w of (1 + w) eps(x, t, c) - w eps(x, t, null)")
    sampler: str = Field("heun", description="name of a sampler")
    nfe: int = Field(
        1000,
        ge=1,
        description="most evaluations of eps_hat a sample; with guidance each costs two passes",
    )
    sampler_options: Mapping[str, Any] = Field({}, description="further options of the sampler")

    def limit_samples(self, samples: int) -> dict[str, int]:
        """At most ``samples`` of each class."""
        most = {
            "per_class": self.per_class,
            "per_forget_class": self.per_forget_class or self.per_class,
        }
        return {name: min(samples, count) for name, count in most.items()}


class ClassGeneration(Task[ClassGenerationOptions]):
    """Samples of every class of a class-conditional model, those to forget among them.

    Classifier-free guidance in the convention (1 + w) eps(x, t, c) - w eps(x, t, null): w = 0 is
    plain conditional. Noise is shared by all methods of a board.
    """

    name = "class_generation"
    citation = "Ho and Salimans 2022, arXiv:2207.12598, equation 6"
    presets = {
        "quick": {
            "tasks": {
                "class_generation": {"per_class": 200, "per_forget_class": 1000, "guidance": 0.0}
            }
        }
    }

    def skip(self, model: Model) -> str | None:
        """Skip models of other tracks."""
        return skip_other_tracks(self.name, model, "class")

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The sampler."""
        options = {"nfe": self.options.nfe, **self.options.sampler_options}
        return {"samplers": (self.options.sampler, options)}

    @property
    def passes(self) -> int:
        """Passes through the network that an evaluation of the guided eps_hat takes."""
        return 2 if self.options.guidance else 1

    def cost(self, model: Model) -> Cost:
        """The sampler's budget, twice with guidance."""
        return Cost(self.options.nfe * self.passes)

    def conditions(self, context: ModelContext) -> Tensor:
        """The class of each sample, ``int64 [N]``, one class after the other."""
        c = self.options
        counts = torch.full((len(context.data.classes),), c.per_class)
        counts[list(context.targets)] = c.per_forget_class or c.per_class
        return torch.repeat_interleave(counts)

    def total(self, context: ModelContext) -> int:
        """Number of samples of all classes."""
        return len(self.conditions(context))

    def draw(self, context: ModelContext, start: int, count: int) -> dict[str, Tensor]:
        """``x``: samples in model space; ``y``: their classes; ``nfe``: network passes of each."""
        y = self.conditions(context)[start : start + count].to(context.device)
        w = self.options.guidance
        seed = derive_seed(context.seed, self.name)
        noise = Noise(seed, start, count, context.device)
        sampler = context.create("samplers", *self.uses()["samplers"])
        samples = sampler.sample(Conditioned(context.model, y, w), noise)
        nfe = torch.full((count,), samples.nfe * self.passes)
        return {"x": samples.x, "y": y, "nfe": nfe}

    def preview(self, context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
        """A row of images for each class."""
        if len(context.model.shape) != 3:
            return {}
        x, y = context.model.codec.decode(artifact["x"]), artifact["y"]
        rows = {}
        for i, name in enumerate(context.data.classes):
            split = "forget" if i in context.targets else "retain"
            rows[f"{name} ({split})"] = x[y == i][:PREVIEW_SAMPLES]
        return rows


def retain_mask(context: ModelContext, artifact: Artifact) -> Tensor:
    """Mask ``[N]`` of the samples whose class is retained."""
    targets = torch.tensor(context.targets, device=artifact["y"].device)
    return ~torch.isin(artifact["y"], targets)


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Class-conditional generation."""
    return [ClassGeneration]
