"""Schedulers of diffusers beside the grid of the discrete process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msgm_backbones.folders import SCHEDULE, check_process, read_json
from msgm_bench import DiscreteDDPM, IncompatibleError, Model

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
        IncompatibleError: Other betas, or another prediction than the noise.
    """
    known = check_process(folder, process.spec())
    path = scheduler_card(folder)
    if path is None:
        return "" if known else ASSUMED
    told = read_json(path)
    kind = told.get("prediction_type", "epsilon")
    if kind != "epsilon":
        raise IncompatibleError(f"{path}: a network that predicts {kind!r}", "epsilon, the noise")
    theirs, ours = betas(told, path), process.betas
    if theirs.shape != ours.shape or not torch.allclose(theirs, ours, rtol=RELATIVE, atol=0):
        raise IncompatibleError(
            f"{path}: {_named(told, theirs)}",
            f"steps {process.steps}, beta_start {process.beta_start}, beta_end "
            f"{process.beta_end}, linear, as the backbone has",
            _remedy(theirs),
        )
    return ""


def scheduler_card(folder: Path) -> Path | None:
    """In ``scheduler/``, or beside the network's card, as older repositories have it."""
    places = (folder / "scheduler", folder, folder.parent / "scheduler")
    found = (place / SCHEDULE for place in places)
    return next((path for path in found if path.is_file()), None)


def betas(told: dict[str, Any], path: Path) -> Tensor:
    """beta_k as diffusers' own scheduler of this card computes them, float64 ``[N]``.

    Raises:
        IncompatibleError: It is no scheduler of a discrete process.
    """
    import diffusers

    name = str(told.get("_class_name"))
    scheduler = getattr(diffusers, name, None)
    found = None
    if isinstance(scheduler, type) and issubclass(scheduler, diffusers.SchedulerMixin):
        found = getattr(scheduler.from_config(told), "betas", None)
    if not isinstance(found, Tensor):
        raise IncompatibleError(
            f"{path} describes {name}, which has no betas",
            "DDPMScheduler, DDIMScheduler or another one of a discrete process",
        )
    return found.double()


def save_scheduler(model: Model, process: DiscreteDDPM, folder: Path) -> str:
    """Write the scheduler, and the card of a pipeline for an unconditional model."""
    from diffusers import DDPMPipeline, DDPMScheduler

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
    DDPMPipeline(model.network.unet, scheduler).save_config(folder)
    return USE + PIPELINE.format(steps=process.steps)


def _named(told: dict[str, Any], theirs: Tensor) -> str:
    kind = told.get("beta_schedule", "linear")
    return f"steps {len(theirs)}, betas from {theirs[0]:.6g} to {theirs[-1]:.6g}, {kind}"


def _remedy(theirs: Tensor) -> str:
    """The options with which the backbone has the same betas, if it can."""
    first, last = float(theirs[0]), float(theirs[-1])
    line = torch.linspace(first, last, len(theirs), dtype=torch.float64)
    if torch.allclose(theirs, line, rtol=RELATIVE, atol=0):
        return f"-b steps={len(theirs)} -b beta_start={first:.6g} -b beta_end={last:.6g}"
    return "only betas that are linear in the step can be had"
