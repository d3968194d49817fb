"""The probability flow ODE with a fixed number of second-order steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from msgm_bench.diffusion.noise import Noise
from msgm_bench.diffusion.noise_prediction import CountedEps
from msgm_bench.diffusion.process import Process
from msgm_bench.diffusion.samplers import ReverseSampler, posterior_mean


def karras_grid(high: float, low: float, points: int, rho: float) -> Tensor:
    """Return (high^(1/rho) + i/(points-1) (low^(1/rho) - high^(1/rho)))^rho, i = 0..points-1.

    Source: Karras et al. 2022, Eq. 5.
    """
    root = torch.linspace(high ** (1 / rho), low ** (1 / rho), points, dtype=torch.float64)
    return root**rho


def heun(eps: CountedEps, process: Process, x: Tensor, sbars: Tensor) -> Tensor:
    """Carry x along d xbar / d sbar = eps_hat(a xbar, t) over the grid `sbars`, up or down.

    Heun's second-order method in xbar = x / a and sbar = sigma / a; the equation holds for every
    linear process.  Takes two evaluations an interval.

    Args:
        eps: The noise predictor.
        process: The forward process.
        x: States [N, *item_shape] at the first of `sbars`.
        sbars: Monotone values of sigma / a, float64 [K].

    Returns:
        States [N, *item_shape] at the last of `sbars`.
    """
    times = process.t_from_noise_to_signal(sbars)
    a, _ = process.marginal(times)
    xbar = x / a[0]
    for i in range(len(sbars) - 1):
        h = sbars[i + 1] - sbars[i]
        d = eps(a[i] * xbar, times[i])
        d_next = eps(a[i + 1] * (xbar + h * d), times[i + 1])
        xbar = xbar + 0.5 * h * (d + d_next)
    return a[-1] * xbar


@dataclass(frozen=True)
class ProbabilityFlow(ReverseSampler):
    """Heun's method for d xbar / d sbar = eps_hat(a xbar, t), xbar = x / a, sbar = sigma / a.

    The equation holds for every linear process.  The grid of sbar is Karras et al.'s, from
    sbar(t_start) to sbar(t_sampling); with `denoise` the last step is Euler's, to sbar = 0.
    nfe = 2 steps - 1 with `denoise`, 2 steps without.
    Source: Karras et al. 2022, algorithm 1 and Eq. 5; Song et al. 2021, Eq. 13.
    """

    steps: int = 50
    rho: float = 7.0
    denoise: bool = True

    def solve(
        self, eps: CountedEps, process: Process, x: Tensor, t_start: float, noise: Noise
    ) -> Tensor:
        """Carry xbar down the grid of sbar; uses no noise."""
        ends = torch.tensor([t_start, process.t_sampling], dtype=torch.float64)
        high, low = process.noise_to_signal(ends).tolist()
        points = self.steps if self.denoise else self.steps + 1
        sbars = karras_grid(high, low, points, self.rho)
        x = heun(eps, process, x, sbars)
        return (
            posterior_mean(eps, process, x, process.t_from_noise_to_signal(sbars[-1]))
            if self.denoise
            else x
        )

    def steps_within(self, nfe: int) -> int:
        """Return (nfe + 1) / 2 with `denoise`, nfe / 2 without, rounded down."""
        return (nfe + 1) // 2 if self.denoise else nfe // 2
