"""Solvers of the reverse SDE: Euler-Maruyama and predictor-corrector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from msgm_bench.diffusion.noise import Noise
from msgm_bench.diffusion.noise_prediction import CountedEps
from msgm_bench.diffusion.process import Process, per_item
from msgm_bench.diffusion.samplers import ReverseSampler, posterior_mean
from msgm_bench.errors import OptionError

NormName = Literal["item", "batch", "expected"]


def even_times(process: Process, t_start: float, steps: int, denoise: bool) -> Tensor:
    """Return the float64 times at which eps_hat is evaluated, then t_sampling unless denoising."""
    points = steps if denoise else steps + 1
    return torch.linspace(t_start, process.t_sampling, points, dtype=torch.float64)


@dataclass(frozen=True)
class EulerMaruyama(ReverseSampler):
    """The reverse SDE dx = [f x - g^2 score] dt + g dw, backwards in even steps of t.

    nfe = steps.  Source: Song et al. 2021, Eq. 6 and appendix G.
    """

    steps: int = 1000
    denoise: bool = True

    def solve(
        self, eps: CountedEps, process: Process, x: Tensor, t_start: float, noise: Noise
    ) -> Tensor:
        """Take x_s = x_t - (f x_t - g^2 score) (t - s) + g sqrt(t - s) z."""
        times = even_times(process, t_start, self.steps, self.denoise)
        for t, s in pairwise(times):
            f, g = process.drift_diffusion(t)
            _, sigma = process.marginal(t)
            score = -eps(x, t) / sigma
            z = noise.normal(tuple(x.shape[1:]))
            x = x - (f * x - g**2 * score) * (t - s) + g * torch.sqrt(t - s) * z
        return posterior_mean(eps, process, x, times[-1]) if self.denoise else x

    def steps_within(self, nfe: int) -> int:
        """Return nfe."""
        return nfe


@dataclass(frozen=True)
class PredictorCorrector(ReverseSampler):
    """Langevin corrector, then reverse-diffusion predictor, at every time of an even grid.

    nfe = steps (1 + corrector_steps).

    The predictor is x_s = (2 - alpha) x_t + variance score + sqrt(variance) z, and the
    corrector x + r score + sqrt(2 r) z with r = 2 alpha^2 (snr n / n_s)^2, where alpha is of the
    coming transition.  n and n_s are the norms of z and of the score:

    - 'expected': n = sqrt(D), n_s = sqrt(D) / sigma, what both are where x is mostly noise; the
      chain keeps its law in every dimension, whatever the batch and however damaged the score;
    - 'item': n = sqrt(D), n_s = ||score|| of the item.  For D >> 1 only: a step that depends on x
      biases the chain, and in 2-D, where a score may vanish, gives variances ten times too large;
    - 'batch': both averaged over the batch, as in score_sde; couples the items of a batch.

    Source: Song et al. 2021, algorithms 2 to 5, Eq. 46 (predictor).
    """

    steps: int = 1000
    corrector_steps: int = 1
    snr: float = 0.16
    denoise: bool = True
    norm: NormName = "expected"

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            OptionError: if an option is out of range.
        """
        super().__post_init__()
        if self.corrector_steps < 0 or self.snr <= 0:
            raise OptionError(
                f"corrector_steps={self.corrector_steps}, snr={self.snr}",
                "corrector_steps >= 0 and snr > 0",
            )
        if self.norm not in ("item", "batch", "expected"):
            raise OptionError(f"norm={self.norm!r}", "'item', 'batch' or 'expected'")

    def solve(
        self, eps: CountedEps, process: Process, x: Tensor, t_start: float, noise: Noise
    ) -> Tensor:
        """Correct at t, then predict x_s = (2 - alpha) x_t + variance score + sqrt(variance) z."""
        times = even_times(process, t_start, self.steps, self.denoise)
        for t, s in pairwise(times):
            alpha, variance = process.transition(s, t)
            x = self._correct(eps, process, x, t, float(alpha), noise)
            score = -eps(x, t) / process.marginal(t)[1]
            z = noise.normal(tuple(x.shape[1:]))
            x = (2 - alpha) * x + variance * score + torch.sqrt(variance) * z
            x = self.constrain(process, x, s, noise)
        if not self.denoise:
            return x
        x = self._correct(eps, process, x, times[-1], float(process.marginal(times[-1])[0]), noise)
        return posterior_mean(eps, process, x, times[-1])

    def _correct(
        self, eps: CountedEps, process: Process, x: Tensor, t: Tensor, alpha: float, noise: Noise
    ) -> Tensor:
        sigma = process.marginal(t)[1]
        for _ in range(self.corrector_steps):
            score = -eps(x, t) / sigma
            z = noise.normal(tuple(x.shape[1:]))
            r = per_item(2 * (alpha * self.snr * self._norm_ratio(score, z, sigma)) ** 2, x)
            x = x + r * score + torch.sqrt(2 * r) * z
            x = self.constrain(process, x, t, noise)
        return x

    def constrain(self, process: Process, x: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """What is done to x [N, *item_shape] after every update at time t; here nothing."""
        return x

    def _norm_ratio(self, score: Tensor, z: Tensor, sigma: Tensor) -> Tensor:
        """Return n / n_s, shape [N] or scalar."""
        if self.norm == "expected":
            return sigma
        n_s: Tensor = torch.linalg.vector_norm(score.flatten(1), dim=1)
        if self.norm == "batch":
            n_z: Tensor = torch.linalg.vector_norm(z.flatten(1), dim=1)
            return n_z.mean() / n_s.mean()
        n = math.sqrt(score[0].numel())
        return n_s.clamp_min(torch.finfo(n_s.dtype).tiny).reciprocal() * n

    def steps_within(self, nfe: int) -> int:
        """Return nfe / (1 + corrector_steps), rounded down."""
        return nfe // (1 + self.corrector_steps)
