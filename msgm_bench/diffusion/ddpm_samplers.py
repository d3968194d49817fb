"""Samplers through x0_hat on the process's own grid: DDPM's ancestral sampling and DDIM."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from msgm_bench.diffusion.noise import Noise
from msgm_bench.diffusion.noise_prediction import CountedEps
from msgm_bench.diffusion.process import Process
from msgm_bench.diffusion.samplers import ReverseSampler, posterior_mean
from msgm_bench.errors import OptionError


@dataclass(frozen=True)
class Ancestral(ReverseSampler):
    """x_s ~ N((x_t - variance eps_hat / sigma_t) / alpha, v), on grid times t > s.

    alpha and variance are of x_t | x_s.  v is the `variance` itself ('beta', Ho et al.'s choice)
    or variance sigma_s^2 / sigma_t^2 ('posterior').  The last step returns x0_hat.  nfe = steps.
    Source: Ho et al. 2020, algorithm 2 and section 3.2.
    """

    steps: int = 1000
    variance: Literal["beta", "posterior"] = "beta"

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            OptionError: if an option is out of range.
        """
        super().__post_init__()
        if self.variance not in ("beta", "posterior"):
            raise OptionError(f"variance={self.variance!r}", "'beta' or 'posterior'")

    def solve(
        self, eps: CountedEps, process: Process, x: Tensor, t_start: float, noise: Noise
    ) -> Tensor:
        """Walk down the grid from t_start."""
        times = process.grid(self.steps, t_start)
        for t, s in pairwise(times):
            alpha, variance = process.transition(s, t)
            sigma_s, sigma_t = process.marginal(s)[1], process.marginal(t)[1]
            v = variance if self.variance == "beta" else variance * (sigma_s / sigma_t) ** 2
            mean = (x - variance / sigma_t * eps(x, t)) / alpha
            x = mean + torch.sqrt(v) * noise.normal(tuple(x.shape[1:]))
        return posterior_mean(eps, process, x, times[-1])

    def steps_within(self, nfe: int) -> int:
        """Return nfe."""
        return nfe


@dataclass(frozen=True)
class DDIM(ReverseSampler):
    """x_s = a_s x0_hat + sqrt(sigma_s^2 - v) eps_hat + sqrt(v) z on grid times t > s.

    v = eta^2 variance sigma_s^2 / sigma_t^2, `variance` of x_t | x_s.  eta = 0 is deterministic,
    eta = 1 is ancestral sampling with the posterior variance.  The last step returns x0_hat.
    nfe = steps.  Source: Song, Meng & Ermon 2021, Eq. 12 and 16.
    """

    steps: int = 100
    eta: float = 0.0

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            OptionError: if an option is out of range.
        """
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise OptionError(f"eta={self.eta}", "0 <= eta <= 1")

    def solve(
        self, eps: CountedEps, process: Process, x: Tensor, t_start: float, noise: Noise
    ) -> Tensor:
        """Walk down the grid from t_start; draws noise only if eta > 0."""
        times = process.grid(self.steps, t_start)
        for t, s in pairwise(times):
            (a_s, sigma_s), (a_t, sigma_t) = process.marginal(s), process.marginal(t)
            ratio = self.eta**2 * process.transition(s, t)[1] / sigma_t**2  # v / sigma_s^2
            eps_hat = eps(x, t)
            x0_hat = (x - sigma_t * eps_hat) / a_t
            x = a_s * x0_hat + sigma_s * torch.sqrt(1 - ratio) * eps_hat
            if self.eta > 0:
                x = x + sigma_s * torch.sqrt(ratio) * noise.normal(tuple(x.shape[1:]))
        return posterior_mean(eps, process, x, times[-1])

    def steps_within(self, nfe: int) -> int:
        """Return nfe."""
        return nfe
