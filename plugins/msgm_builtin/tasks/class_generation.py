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
    Model,
    ModelContext,
    Noise,
    Task,
    TaskOptions,
    derive_seed,
    hookimpl,
)

SHOWN = 10  # samples of each class in a picture


class ClassGenerationOptions(TaskOptions):
    """Sampler, guidance and sizes."""

    per_class: int = Field(5_000, ge=1, description="samples of a class")
    per_forget_class: int | None = Field(
        None, ge=1, description="samples of a forgotten class; empty: as many as of the others"
    )
    guidance: float = Field(2.0, ge=0, description="w of (1 + w) eps(x, t, c) - w eps(x, t, null)")
    sampler: str = Field("heun", description="name of a sampler")
    nfe: int = Field(
        1000, ge=1, description="most evaluations of eps_hat a sample; guided ones cost double"
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
    """Samples of every class that the model was told of, the forgotten ones too.

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
        """It is for the conditional track."""
        if model.classes is not None:
            return None
        return f"{self.name} belongs to the conditional track, and the model is told no class"

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The sampler."""
        options = {"nfe": self.options.nfe, **self.options.sampler_options}
        return {"samplers": (self.options.sampler, options)}

    def asked(self, context: ModelContext) -> Tensor:
        """The class of each sample ``int64 [N]``, one class after the other."""
        c = self.options
        counts = torch.full((len(context.data.classes),), c.per_class)
        counts[list(context.targets)] = c.per_forget_class or c.per_class
        return torch.repeat_interleave(counts)

    def total(self, context: ModelContext) -> int:
        """Samples of all classes."""
        return len(self.asked(context))

    def draw(self, context: ModelContext, start: int, count: int) -> dict[str, Tensor]:
        """``x``: samples in model space; ``y``: the classes asked for; ``nfe``: what each cost."""
        y = self.asked(context)[start : start + count].to(context.device)
        w = self.options.guidance
        seed = derive_seed(context.seed, self.name)
        noise = Noise(seed, start, count, context.device)
        sampler = context.create("samplers", *self.uses()["samplers"])
        samples = sampler.sample(Conditioned(context.model, y, w), noise)
        cost = samples.nfe * (2 if w else 1)
        return {"x": samples.x, "y": y, "nfe": torch.full((count,), cost)}

    def preview(self, context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
        """A row of images a class."""
        if len(context.model.shape) != 3:
            return {}
        x, y = context.model.codec.decode(artifact["x"]), artifact["y"]
        rows = {}
        for i, name in enumerate(context.data.classes):
            told = "forgotten" if i in context.targets else "kept"
            rows[f"{name} ({told})"] = x[y == i][:SHOWN]
        return rows


def kept(context: ModelContext, artifact: Artifact) -> Tensor:
    """Mask ``[N]`` of the samples of the classes that are not to be forgotten."""
    forgotten = torch.tensor(context.targets, device=artifact["y"].device)
    return ~torch.isin(artifact["y"], forgotten)


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Class-conditional generation."""
    return [ClassGeneration]
