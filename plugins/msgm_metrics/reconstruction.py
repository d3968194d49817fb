"""Reconstruction of held-out images: a little noise, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import (
    Cost,
    Model,
    Noise,
    OptionError,
    Process,
    Samples,
    Subject,
    Task,
    TaskConfig,
    derive_seed,
    hookimpl,
    reconstruct,
)
from msgm_metrics.restoration import Restoration

NFE = 20  # network evaluations from t = 0.02, where a grid of 1000 has as many steps


class Reconstruct(Restoration):
    """Held-out images, one draw of the perturbation kernel at ``t``, and back by the sampler."""

    name = "reconstruction"
    citation = "MSGM, arXiv:2412.07229, section 4 (reconstruction, t = 0.02)"
    presets = {
        "quick": {"tasks": {"reconstruction": {"count": 500}}},
        "paper": {"tasks": {"reconstruction": {"count": 10_000}}},
    }

    class Config(TaskConfig):
        """How far, and the way back."""

        t: float = Field(0.02, gt=0, le=1, description="how far to go")
        sampler: str = Field("heun", description="name of a sampler")
        nfe: int | None = Field(
            None,
            ge=1,
            description="most network evaluations an image; empty: 20, or as many as a discrete "
            "process has steps up to t",
        )
        options: Mapping[str, Any] = Field({}, description="further options of the sampler")

    @property
    def start(self) -> float:
        """``t``."""
        t: float = self.config.t
        return t

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The sampler."""
        options = {"nfe": self.config.nfe or NFE, **self.config.options}
        return {"samplers": (self.config.sampler, options)}

    def resolved(self, model: Model) -> Self:
        """With the budget that the process's grid allows, where none was asked for."""
        if self.config.nfe is not None:
            return self
        points = model.process.grid_points(self.config.t)
        nfe = NFE if points is None else min(NFE, points)
        return type(self)(self.config.model_copy(update={"nfe": nfe}))

    def check(self, model: Model) -> None:
        """``t`` must be above the time where samplers stop.

        Raises:
            OptionError: It is not.
        """
        if self.config.t <= model.process.t_sampling:
            raise OptionError(
                f"t = {self.config.t:g} for reconstruction",
                f"{model.process.t_sampling:g} < t <= 1",
                "-t reconstruction.t=T",
            )

    def cost(self, model: Model) -> Cost:
        """The budget."""
        return Cost(self.config.nfe or NFE)

    def draw(self, subject: Subject, start: int, count: int) -> dict[str, Tensor]:
        """``x``: restored images in model space; ``nfe``: what each cost."""
        model = subject.model
        noise = Noise(derive_seed(subject.seed, "reconstruction"), start, count, subject.device)
        sampler = subject.create("samplers", *self.uses()["samplers"])

        def back(
            eps: Any,
            process: Process,
            shape: tuple[int, ...],
            noise: Noise,
            *,
            start: tuple[Tensor, float],
        ) -> Samples:
            return sampler.sample(model, noise, start)

        y = self.originals(subject, start, count)
        samples = reconstruct(back, model.forward_eps, model.process, y, self.config.t, noise)
        return {"x": samples.x, "nfe": torch.full((count,), samples.nfe)}


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Reconstruction."""
    return [Reconstruct]
