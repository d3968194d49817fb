"""Inpainting of held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import (
    Box,
    Cost,
    CountOptions,
    Data,
    Inpainting,
    Model,
    ModelContext,
    Noise,
    OptionError,
    Task,
    derive_seed,
    hookimpl,
)
from msgm_builtin.tasks.restoration import Restoration


class InpaintingOptions(CountOptions):
    """Region and sampler."""

    region: Literal["auto", "upper-half", "feature"] = Field(
        "auto",
        description="region to fill in; feature: where the classes to forget show, as the dataset "
        "names it; auto: feature where the dataset names it, else upper-half",
    )
    box: Box | None = Field(
        None, description="top, left, height, width in pixels; in place of `region`"
    )
    nfe: int = Field(1000, ge=1, description="most network evaluations an image")
    corrector_steps: int = Field(1, ge=0, description="Langevin steps a step; 0 is biased")
    snr: float = Field(0.16, gt=0, description="signal-to-noise ratio of a Langevin step")
    norm: Literal["expected", "item", "batch"] = Field(
        "expected", description="norms in the size of a Langevin step, as of the sampler pc"
    )
    denoise: bool = Field(
        True, description="return the posterior mean; false leaves noise, as score_sde does"
    )


class InpaintingTask(Restoration[InpaintingOptions]):
    """A region of held-out images, filled in conditionally on the other pixels.

    Conditional predictor-corrector; known pixels end as in the original. Without corrector steps
    the draws are biased at any number of steps, and the protocol's name says so.
    """

    name = "inpainting"
    citation = "Song et al. 2021, arXiv:2011.13456, section 5 and appendix I.2"
    presets = {
        "quick": {"tasks": {"inpainting": {"nfe": 50, "count": 500}}},
        "full": {"tasks": {"inpainting": {"nfe": 1000}}},
        "paper": {"tasks": {"inpainting": {"nfe": 2000, "count": 10_000}}},
    }

    @property
    def label(self) -> str:
        """``inpainting``, with a remark where the draws are biased."""
        return self.name if self.options.corrector_steps else f"{self.name} predictor-only (biased)"

    def check(self, model: Model) -> None:
        """Refuse a budget that holds no step.

        Raises:
            OptionError: Not one step fits into the budget.
        """
        shape = model.shape
        self.solver(torch.zeros(1, *shape), (0, 0, shape[1] // 2, shape[2]))

    def cost(self, model: Model) -> Cost:
        """The sampler's budget."""
        return Cost(self.options.nfe)

    def check_data(self, data: Data, targets: Sequence[int]) -> None:
        """Refuse a region that is unknown, leaves the image or fills it.

        Raises:
            OptionError: The region is one of these.
        """
        mask(data.shape, self.box(data, targets))

    def box(self, data: Data, targets: Sequence[int]) -> Box:
        """The box to fill in: the user's, the region of the classes to forget, or the upper half.

        The region of several attributes is the smallest box around theirs.

        Raises:
            OptionError: ``region`` is ``feature``, and the dataset names no region for a class.
        """
        c, _, height, width = self.options, *data.shape
        if c.box is not None:
            box: Box = c.box
            return box
        names = [data.classes[target] for target in targets]
        regions = [data.regions[name] for name in names if name in data.regions]
        if c.region != "upper-half" and len(regions) == len(names):
            return bounding_box(regions)
        if c.region == "feature":
            missing = ", ".join(name for name in names if name not in data.regions)
            raise OptionError(
                f"inpainting.region = feature: the dataset names no region of {missing}",
                ", ".join(data.regions) or "inpainting.region=upper-half, or inpainting.box=BOX",
            )
        return (0, 0, height // 2, width)

    def protocol(self, context: ModelContext) -> dict[str, Any]:
        """The sampler, and the box in place of the option that names it."""
        settings = super().protocol(context)
        del settings["region"]
        return settings | {"box": list(self.box(context.data, context.targets))}

    def solver(self, known: Tensor, box: Box) -> Inpainting:
        """The sampler for clean images ``known [N, C, H, W]`` in model space."""
        c = self.options
        solver = Inpainting(
            corrector_steps=c.corrector_steps,
            snr=c.snr,
            norm=c.norm,
            denoise=c.denoise,
            known=known,
            mask=mask(tuple(known.shape[1:]), box).to(known),
        )
        return solver.with_nfe(c.nfe)

    def model_input(self, context: ModelContext, original: Tensor) -> Tensor:
        """The known pixels, and grey in the box."""
        box = self.box(context.data, context.targets)
        known = mask(tuple(original.shape[1:]), box).to(original)
        return known * original + (1 - known) * 0.5

    def draw(self, context: ModelContext, start: int, count: int) -> dict[str, Tensor]:
        """``x``: restored images in model space; ``nfe``: network evaluations of each."""
        model = context.model
        noise = Noise(derive_seed(context.seed, "inpainting"), start, count, context.device)
        box = self.box(context.data, context.targets)
        solver = self.solver(self.originals(context, start, count), box)
        samples = solver(model.eps_fn, model.process, model.shape, noise)
        return {"x": samples.x, "nfe": torch.full((count,), samples.nfe)}


def mask(shape: tuple[int, ...], box: Box) -> Tensor:
    """Mask ``[1, H, W]``: 1 on known pixels, 0 in the box.

    Raises:
        OptionError: The box is empty, leaves the image or fills it.
    """
    _, height, width = shape
    top, left, h, w = box
    inside = 0 <= top < top + h <= height and 0 <= left < left + w <= width
    if not inside or (h, w) == (height, width):
        raise OptionError(
            f"box = {box} for inpainting",
            f"(top, left, height, width) within {height}x{width} pixels, and not all of them",
        )
    known = torch.ones(1, height, width)
    known[:, top : top + h, left : left + w] = 0
    return known


def bounding_box(boxes: Sequence[Box]) -> Box:
    """The smallest box around ``boxes``."""
    top, left = min(box[0] for box in boxes), min(box[1] for box in boxes)
    bottom, right = max(b[0] + b[2] for b in boxes), max(b[1] + b[3] for b in boxes)
    return (top, left, bottom - top, right - left)


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Inpainting."""
    return [InpaintingTask]
