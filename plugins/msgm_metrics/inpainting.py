"""Inpainting of held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import (
    Cost,
    Inpainting,
    Model,
    Noise,
    OptionError,
    Subject,
    Task,
    TaskConfig,
    derive_seed,
    hookimpl,
)
from msgm_metrics.restoration import Restoration

Box = tuple[int, int, int, int]


class Inpaint(Restoration):
    """A region of held-out images drawn anew, given the rest of them.

    Conditional predictor-corrector; known pixels end as they were given. Without corrector steps
    the draws are biased at any number of steps, and the protocol says so.
    """

    name = "inpainting"
    citation = "Song et al. 2021, arXiv:2011.13456, section 5 and appendix I.2"
    presets = {
        "quick": {"tasks": {"inpainting": {"nfe": 50, "count": 500}}},
        "standard": {"tasks": {"inpainting": {"nfe": 1000}}},
        "paper": {"tasks": {"inpainting": {"nfe": 2000, "count": 10_000}}},
    }

    class Config(TaskConfig):
        """Region and sampler."""

        region: Literal["upper-half"] = Field("upper-half", description="what is drawn")
        box: Box | None = Field(
            None, description="top, left, height, width in pixels of what is drawn; for `region`"
        )
        nfe: int = Field(1000, ge=1, description="most network evaluations an image")
        corrector_steps: int = Field(1, ge=0, description="Langevin steps a step; 0 is biased")
        snr: float = Field(0.16, gt=0, description="signal-to-noise ratio of a Langevin step")
        norm: Literal["expected", "item", "batch"] = Field(
            "expected", description="norms in the size of a Langevin step, as in the sampler pc"
        )
        denoise: bool = Field(
            True, description="return the posterior mean; false leaves noise, as score_sde does"
        )

    @property
    def label(self) -> str:
        """``inpainting``, and whether it is biased."""
        return self.name if self.config.corrector_steps else f"{self.name} predictor-only (biased)"

    def check(self, model: Model) -> None:
        """The region must lie in the image and leave something known; a step must fit.

        Raises:
            OptionError: One of them does not.
        """
        self.mask(model.shape)
        self.solver(torch.zeros(1, *model.shape))

    def cost(self, model: Model) -> Cost:
        """The budget."""
        return Cost(self.config.nfe)

    def mask(self, shape: tuple[int, ...]) -> Tensor:
        """``[1, H, W]``: 1 where known, 0 where drawn.

        Raises:
            OptionError: The box is empty, leaves the image or fills it.
        """
        _, height, width = shape
        top, left, h, w = self.config.box or (0, 0, height // 2, width)
        inside = 0 <= top < top + h <= height and 0 <= left < left + w <= width
        if not inside or (h, w) == (height, width):
            raise OptionError(
                f"box = {(top, left, h, w)} for inpainting",
                f"(top, left, height, width) inside {height}x{width} pixels, and not all of them",
            )
        mask = torch.ones(1, height, width)
        mask[:, top : top + h, left : left + w] = 0
        return mask

    def solver(self, known: Tensor) -> Inpainting:
        """The sampler, given the clean images in model space."""
        c = self.config
        solver = Inpainting(
            corrector_steps=c.corrector_steps,
            snr=c.snr,
            norm=c.norm,
            denoise=c.denoise,
            known=known,
            mask=self.mask(tuple(known.shape[1:])).to(known),
        )
        return solver.budget_for(c.nfe)

    def given(self, original: Tensor) -> Tensor:
        """The known pixels, grey elsewhere."""
        mask = self.mask(tuple(original.shape[1:])).to(original)
        return mask * original + (1 - mask) * 0.5

    def draw(self, subject: Subject, start: int, count: int) -> dict[str, Tensor]:
        """``x``: restored images in model space; ``nfe``: what each cost."""
        model = subject.model
        noise = Noise(derive_seed(subject.seed, "inpainting"), start, count, subject.device)
        solver = self.solver(self.originals(subject, start, count))
        samples = solver(model.forward_eps, model.process, model.shape, noise)
        return {"x": samples.x, "nfe": torch.full((count,), samples.nfe)}


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Inpainting."""
    return [Inpaint]
