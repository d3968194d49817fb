"""The discrete-time DDPM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from msgm_bench import Backbone, DataStats, DiscreteDDPM, Model, Process, hookimpl, merge
from msgm_builtin.backbones.base import (
    EXPONENTIAL,
    FAST,
    NetworkBackbone,
    NetworkOptions,
    sampling_preset,
)
from msgm_builtin.backbones.noise_schedule import check_scheduler, save_scheduler

# with the posterior's variance in the conditional track, as in its released codes
CHAIN = merge(
    sampling_preset("ancestral", 1000),
    {"tasks": {"class_generation": {"sampler_options": {"variance": "posterior"}}}},
)


class DDPMOptions(NetworkOptions):
    """Network and noise schedule."""

    steps: int = Field(1000, ge=2, description="steps of the grid")
    beta_start: float = Field(1e-4, gt=0, lt=1, description="first beta")
    beta_end: float = Field(0.02, gt=0, lt=1, description="last beta")


class DDPM(NetworkBackbone[DDPMOptions]):
    """DDPM: x_k = sqrt(abar_k) x0 + sqrt(1 - abar_k) eps on a grid of linear betas."""

    name = "ddpm"
    citation = "Ho, Jain, Abbeel 2020, arXiv:2006.11239, section 4"
    samplers: ClassVar[tuple[str, ...]] = (*EXPONENTIAL, "ancestral", "ddim", "heun")
    timestep = "k = 0 .. N - 1 of t = (k + 1) / N; the output is eps_hat"
    presets = {
        "quick": FAST,
        "full": FAST,
        "paper": {
            "finetuning": {"steps": 30_000},  # MSGM, arXiv:2412.07229, section 4.4
            **CHAIN,
        },
    }

    def process(self, stats: DataStats) -> Process:
        """The grid."""
        c = self.options
        return DiscreteDDPM(c.steps, c.beta_start, c.beta_end)

    def check_schedule(self, folder: Path, process: Process) -> str:
        """Refuse a folder whose scheduler has other betas, or another prediction than the noise."""
        assert isinstance(process, DiscreteDDPM)
        return check_scheduler(folder, process)

    def save_pretrained(self, model: Model, folder: Path) -> str:
        """A U-Net and its scheduler, as a pipeline where diffusers has one."""
        assert isinstance(model.process, DiscreteDDPM)
        text = super().save_pretrained(model, folder)
        return text + save_scheduler(model, model.process, folder)


@hookimpl
def register_backbones() -> Sequence[type[Backbone]]:
    """DDPM."""
    return [DDPM]
