"""Reverse samplers: from the prior at T, or from x at t_start, to samples of x0."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from msgm_bench.diffusion.noise import Noise
from msgm_bench.diffusion.noise_prediction import CountedEps, EpsFn
from msgm_bench.diffusion.process import Process
from msgm_bench.errors import OptionError


@dataclass(frozen=True)
class Samples:
    """Samples and their cost.

    Attributes:
        x: Samples, shape [N, *item_shape]; not clipped, and not finite where eps_hat explodes.
        nfe: Evaluations of eps_hat that each sample took.
    """

    x: Tensor
    nfe: int


@dataclass(frozen=True)
class ReverseSampler(ABC):
    """A solver of the reverse process with a fixed number of steps.

    Every sampler evaluates eps_hat at descending times t_0 > t_1 > ... and, with `denoise`, ends
    with the posterior mean x0_hat = (x - sigma eps_hat) / a at the last of them.

    Attributes:
        steps: The number of steps, at least 1; the last one is the denoising step, if any.
    """

    steps: int = 1000

    def __post_init__(self) -> None:
        """Check the number of steps.

        Raises:
            OptionError: if steps < 1.
        """
        if self.steps < 1:
            raise OptionError(f"steps={self.steps}", "steps >= 1")

    def __call__(
        self,
        eps: EpsFn,
        process: Process,
        item_shape: tuple[int, ...],
        noise: Noise,
        *,
        start: tuple[Tensor, float] | None = None,
    ) -> Samples:
        """Draw `noise.count` samples.

        Args:
            eps: The noise predictor.
            process: The forward process that eps was trained on.
            item_shape: The shape of one item.
            noise: The source of all randomness.
            start: (x [N, *item_shape], t_start) to start from instead of the prior at T.

        Raises:
            OptionError: if the process has no grid of so many steps.
        """
        if start is None:
            x, t_start = process.prior_sampling(item_shape, noise), process.T
        else:
            x, t_start = start
        counted = CountedEps(eps)
        with torch.no_grad():
            x = self.solve(counted, process, x, t_start, noise)
        return Samples(x, counted.nfe)

    @abstractmethod
    def solve(
        self, eps: CountedEps, process: Process, x: Tensor, t_start: float, noise: Noise
    ) -> Tensor:
        """Carry x [N, *item_shape] from t_start to the end."""

    @abstractmethod
    def steps_within(self, nfe: int) -> int:
        """Return the largest number of steps that takes at most `nfe` evaluations."""

    def with_nfe(self, nfe: int) -> Self:
        """Return this sampler with as many steps as `nfe` evaluations a sample allow.

        Raises:
            OptionError: if not even one step fits.
        """
        steps = self.steps_within(nfe)
        if steps < 1:
            raise OptionError(f"a budget of {nfe} evaluations for {type(self).__name__}", "more")
        return dataclasses.replace(self, steps=steps)


def posterior_mean(eps: CountedEps, process: Process, x: Tensor, t: Tensor) -> Tensor:
    """Return x0_hat = (x - sigma(t) eps_hat(x, t)) / a(t), Tweedie's formula."""
    a, sigma = process.marginal(t)
    return (x - sigma * eps(x, t)) / a
