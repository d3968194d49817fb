"""Schedulers of diffusers, compared with the grid of the discrete process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msgm_bench import DiscreteDDPM, IncompatibleError, Model
from msgm_bench.storage.cards import read_card, short
from msgm_bench.storage.weights import boundary
from msgm_builtin.backbones.diffusers_cards import SchedulerCard
from msgm_builtin.backbones.diffusers_io import SCHEDULE, card_folders, check_process, read_object

SCHEDULERS = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler")
RTOL = 1e-5  # diffusers computes betas in float32
ASSUMED = (
    f"the folder holds no {SCHEDULE}: the network is assumed to predict the noise on this grid"
)
USAGE = """
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
diffusers has no pipeline that passes a class to such a network, so there is no `model_index.json`.
"""


def check_scheduler(folder: Path, process: DiscreteDDPM) -> str:
    """Compare the folder's scheduler with the grid; the assumption where it has none.

    Raises:
        IncompatibleError: Other betas, another prediction than the noise, or a field that is not
            supported.
        StorageError: The card cannot be read.
    """
    is_known = check_process(folder, process.spec())
    path = scheduler_card(folder)
    if path is None:
        return "" if is_known else ASSUMED
    card = read_scheduler(path)
    if card.prediction != "epsilon":
        raise IncompatibleError(
            f"{path}: a network that predicts {card.prediction!r}", "epsilon, the noise"
        )
    stored, own = betas(card), process.betas
    if stored.shape != own.shape or not torch.allclose(stored, own, rtol=RTOL, atol=0):
        raise IncompatibleError(
            f"{path}: {_describe(card, stored)}",
            f"steps {process.steps}, beta_start {process.beta_start}, beta_end "
            f"{process.beta_end}, linear, as the backbone has",
            _remedy(stored),
        )
    return ""


def scheduler_card(folder: Path) -> Path | None:
    """The scheduler's card: in ``scheduler/``, or beside the network's card in old repositories."""
    candidates = (
        path
        for place in card_folders(folder)
        for path in (place / "scheduler" / SCHEDULE, place / SCHEDULE)
    )
    return next((path for path in candidates if path.exists()), None)


def read_scheduler(path: Path) -> SchedulerCard:
    """The card of a scheduler of a discrete process.

    Raises:
        IncompatibleError: The card is another scheduler's, or a field of it is not supported.
        StorageError: The card cannot be read.
    """
    inside = boundary(path.parent)
    values = read_object(path, inside)
    name = values.get("_class_name")
    if name not in SCHEDULERS:
        raise IncompatibleError(
            f"{path} describes {short(name)}, which does not state the training of a network",
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
    if model.conditioning is not None:
        return USAGE + NO_PIPELINE
    unet: Any = model.network.unet
    DDPMPipeline(unet, scheduler).save_config(folder)
    return USAGE + PIPELINE.format(steps=process.steps)


def _describe(card: SchedulerCard, stored: Tensor) -> str:
    kind = card.beta_schedule if card.trained_betas is None else "its own"
    return f"steps {len(stored)}, betas from {stored[0]:.6g} to {stored[-1]:.6g}, {kind}"


def _remedy(stored: Tensor) -> str:
    """Options of the backbone for the same betas, if there are any."""
    first, last = float(stored[0]), float(stored[-1])
    line = torch.linspace(first, last, len(stored), dtype=torch.float64)
    if torch.allclose(stored, line, rtol=RTOL, atol=0):
        return f"-b steps={len(stored)} -b beta_start={first:.6g} -b beta_end={last:.6g}"
    return "the backbone has betas that are linear in the step only"
