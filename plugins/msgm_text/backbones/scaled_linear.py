"""Stable Diffusion's noise schedule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from msgm_bench import DiscreteDDPM


@dataclass(frozen=True)
class ScaledLinearDDPM(DiscreteDDPM):
    """DDPM whose betas are the squares of numbers linear in the step.

    beta_k = (sqrt(beta_start) + k/(N-1) (sqrt(beta_end) - sqrt(beta_start)))^2, k = 0..N-1.

    Source: diffusers, ``beta_schedule="scaled_linear"``; the code of Rombach et al. 2022,
    arXiv:2112.10752, calls it linear.
    """

    beta_start: float = 0.00085
    beta_end: float = 0.012

    @cached_property
    def betas(self) -> Tensor:
        """beta_k, k = 0..N-1, float64 on the CPU."""
        start, end = self.beta_start**0.5, self.beta_end**0.5
        return torch.linspace(start, end, self.steps, dtype=torch.float64) ** 2
