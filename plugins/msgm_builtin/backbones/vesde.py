"""The variance exploding SDE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from msgm_bench import Backbone, DataStats, Process, VarianceExploding, hookimpl, merge
from msgm_builtin.backbones.base import (
    EXPONENTIAL,
    FAST,
    NetworkBackbone,
    NetworkOptions,
    sampling_preset,
)


def corrected_preset(nfe: int) -> dict[str, Any]:
    """A preset of predictor-corrector sampling with ``nfe`` evaluations."""
    norm = {"norm": "item"}
    return merge(sampling_preset("pc", nfe, **norm), {"tasks": {"inpainting": norm}})


class VESDEOptions(NetworkOptions):
    """Network and noise scales."""

    sigma_min: float = Field(0.01, gt=0, description="smallest noise, model-space units")
    sigma_max: float | None = Field(
        None, gt=0, description="largest noise; empty: the largest distance in the data"
    )


class VESDE(NetworkBackbone[VESDEOptions]):
    """Variance exploding SDE: x_t = x0 + sigma(t) eps, sigma_min (sigma_max/sigma_min)^t.

    sigma_max defaults to the largest distance between two training items, the rule of Song
    and Ermon 2020 (technique 1), of all of D so that every method has the same process.
    """

    name = "vesde"
    citation = "Song et al. 2021, arXiv:2011.13456, section 3.4 and appendix C"
    data_range = (0.0, 1.0)
    embedding = "fourier"
    timestep = "sigma(t); the output is the score, and eps_hat = -sigma(t) times the output"
    samplers: ClassVar[tuple[str, ...]] = (*EXPONENTIAL, "em", "pc", "heun")
    presets = {"quick": FAST, "full": FAST, "paper": corrected_preset(2000)}

    def process(self, stats: DataStats) -> Process:
        """sigma from ``sigma_min`` to ``sigma_max``."""
        low, high = self.data_range
        width = high - low if stats.levels is not None else 1.0
        sigma_max: float | None = self.options.sigma_max
        return VarianceExploding(self.options.sigma_min, sigma_max or width * stats.max_distance)


@hookimpl
def register_backbones() -> Sequence[type[Backbone]]:
    """The variance exploding SDE."""
    return [VESDE]
