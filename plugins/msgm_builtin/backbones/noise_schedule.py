"""Schedulers of diffusers beside the grid of the discrete process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msgm_bench import DiscreteDDPM, IncompatibleError, Model
from msgm_bench.storage.cards import read_card, short
from msgm_bench.storage.weights import boundary
from msgm_builtin.backbones.diffusers_cards import SchedulerCard
from msgm_builtin.backbones.diffusers_io import SCHEDULE, check_process, places, read_object

SCHEDULERS = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler")
RELATIVE = 1e-5  # diffusers computes betas in float32
ASSUMED = (
    f"the folder holds no {SCHEDULE}: that the network predicts the noise on this grid is "
    "taken on trust"
)
USE = """
`scheduler/` holds the betas. Its steps are ancestral sampling with the variance beta, no clipping:

```python
from diffusers import DDPMScheduler

scheduler = DDPMScheduler.from_pretrained("DIR", subfolder="scheduler")
```
"""
PIPELINE = """
The whole pipeline:

```python
from diffusers import DDPMPipeline

images = DDPMPipeline.from_pretrained("DIR")(batch_size=16, num_inference_steps={steps}).images
```
"""
NO_PIPELINE = """
diffusers has no pipeline that tells a class to such a network, so there is no `model_index.json`.
"""


def check_scheduler(folder: Path, process: DiscreteDDPM) -> str:
    """Compare the folder's scheduler with the grid; what is taken on trust where it has none.

    Raises:
        IncompatibleError: Other betas, another prediction than the noise, or a field that is not
            understood.
        StorageError: The card cannot be read.
    """
    known = check_process(folder, process.spec())
    path = scheduler_card(folder)
    if path is None:
        return "" if known else ASSUMED
    card = read_scheduler(path)
    if card.prediction != "epsilon":
        raise IncompatibleError(
            f"{path}: a network that predicts {card.prediction!r}", "epsilon, the noise"
        )
    theirs, ours = betas(card), process.betas
    if theirs.shape != ours.shape or not torch.allclose(theirs, ours, rtol=RELATIVE, atol=0):
        raise IncompatibleError(
            f"{path}: {_named(card, theirs)}",
            f"steps {process.steps}, beta_start {process.beta_start}, beta_end "
            f"{process.beta_end}, linear, as the backbone has",
            _remedy(theirs),
        )
    return ""


def scheduler_card(folder: Path) -> Path | None:
    """In ``scheduler/``, or beside the network's card, as older repositories have it."""
    candidates = (
        path
        for place in places(folder)
        for path in (place / "scheduler" / SCHEDULE, place / SCHEDULE)
    )
    return next((path for path in candidates if path.exists()), None)


def read_scheduler(path: Path) -> SchedulerCard:
    """The card of a scheduler of a discrete process.

    Raises:
        IncompatibleError: It is another one's, or a field of it is not understood.
        StorageError: It cannot be read.
    """
    inside = boundary(path.parent)
    values = read_object(path, inside)
    name = values.get("_class_name")
    if name not in SCHEDULERS:
        raise IncompatibleError(
            f"{path} describes {short(name)}, which does not say what a network was trained on",
            f"{' or '.join(SCHEDULERS)}, with the betas of the training",
        )
    if values.get("variance_type") in ("learned", "learned_range"):
        raise IncompatibleError(
            f"{path}: a network that predicts a variance, too", "variance_type fixed_large"
        )
    return read_card(path, SchedulerCard, inside)


def betas(card: SchedulerCard) -> Tensor:
    """beta_k as diffusers' own scheduler computes them, float64 ``[N]``."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    fields = (
        *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas"),
        "rescale_betas_zero_snr",
    )
    scheduler = DDPMScheduler(**card.model_dump(include=set(fields)))
    values: Tensor = scheduler.betas
    return values.double()


def save_scheduler(model: Model, process: DiscreteDDPM, folder: Path) -> str:
    """Write the scheduler, and the card of a pipeline for an unconditional model."""
    from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    scheduler = DDPMScheduler(
        num_train_timesteps=process.steps,
        beta_start=process.beta_start,
        beta_end=process.beta_end,
        beta_schedule="linear",
        variance_type="fixed_large",
        clip_sample=False,
        prediction_type="epsilon",
    )
    scheduler.save_pretrained(folder / "scheduler")
    if model.classes is not None:
        return USE + NO_PIPELINE
    unet: Any = model.network.unet
    DDPMPipeline(unet, scheduler).save_config(folder)
    return USE + PIPELINE.format(steps=process.steps)


def _named(card: SchedulerCard, theirs: Tensor) -> str:
    kind = card.beta_schedule if card.trained_betas is None else "its own"
    return f"steps {len(theirs)}, betas from {theirs[0]:.6g} to {theirs[-1]:.6g}, {kind}"


def _remedy(theirs: Tensor) -> str:
    """The options with which the backbone has the same betas, if it can."""
    first, last = float(theirs[0]), float(theirs[-1])
    line = torch.linspace(first, last, len(theirs), dtype=torch.float64)
    if torch.allclose(theirs, line, rtol=RELATIVE, atol=0):
        return f"-b steps={len(theirs)} -b beta_start={first:.6g} -b beta_end={last:.6g}"
    return "only betas that are linear in the step can be had"
