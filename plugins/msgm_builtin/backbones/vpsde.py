"""The variance preserving SDE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from msgm_bench import Backbone, DataStats, Process, VariancePreserving, hookimpl, merge
from msgm_builtin.backbones.base import (
    EXPONENTIAL,
    FAST,
    NetworkBackbone,
    NetworkOptions,
    sampling_preset,
)

NETWORK = {"backbone": {"up_attention": "last"}}  # of score_sde's own run on CIFAR-10


class VPSDEOptions(NetworkOptions):
    """Network and noise schedule."""

    beta_min: float = Field(0.1, gt=0, description="beta at t = 0")
    beta_max: float = Field(20.0, gt=0, description="beta at t = 1")


class VPSDE(NetworkBackbone[VPSDEOptions]):
    """Variance preserving SDE: dx = -beta(t)/2 x dt + sqrt(beta(t)) dw, a^2 + sigma^2 = 1."""

    name = "vpsde"
    citation = "Song et al. 2021, arXiv:2011.13456, section 3.4 and appendix C"
    samplers: ClassVar[tuple[str, ...]] = (*EXPONENTIAL, "em", "pc", "heun")
    presets = {
        "quick": FAST,
        "full": merge(FAST, NETWORK),
        "paper": merge(sampling_preset("em", 1000), NETWORK),
    }

    def process(self, stats: DataStats) -> Process:
        """beta linear in t."""
        return VariancePreserving(self.options.beta_min, self.options.beta_max)


@hookimpl
def register_backbones() -> Sequence[type[Backbone]]:
    """The variance preserving SDE."""
    return [VPSDE]
