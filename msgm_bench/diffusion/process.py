"""Forward processes x_t = a(t) x0 + sigma(t) eps, eps ~ N(0, I)."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from msgm_bench.diffusion.noise import Noise


def per_item(v: Tensor, x: Tensor) -> Tensor:
    """Reshape v [N] (or a scalar) so that it multiplies x [N, *item_shape] item by item."""
    return v.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1)) if v.ndim else v


@dataclass(frozen=True)
class Process(ABC):
    """x_t = a(t) x0 + sigma(t) eps, dx = f(t) x dt + g(t) dw, on t in [t_min, T], T = 1.

    Methods take t of any shape and return its shape, dtype and device.
    Source: Song et al. 2021 (score SDE), Eq. 5 and 29.
    """

    T: ClassVar[float] = 1.0

    @property
    @abstractmethod
    def t_min(self) -> float:
        """The first time of training and of the likelihood, in (0, 1)."""

    @property
    @abstractmethod
    def t_sampling(self) -> float:
        """The time at which samplers stop (and denoise), in (0, 1)."""

    @property
    def prior_std(self) -> float:
        """The prior's standard deviation: x_T ~ N(0, prior_std^2 I)."""
        return 1.0

    @abstractmethod
    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (a(t), sigma(t)), both positive for t > 0."""

    @abstractmethod
    def drift_diffusion(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (f(t), g(t)) of dx = f(t) x dt + g(t) dw.

        f = a'/a and g^2 = (sigma^2)' - 2 f sigma^2.
        """

    @abstractmethod
    def transition(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (alpha, variance) of x_t | x_s ~ N(alpha x_s, variance I), 0 <= s < t.

        alpha = a_t / a_s and variance = sigma_t^2 - alpha^2 sigma_s^2, free of cancellation.
        """

    @abstractmethod
    def noise_to_signal(self, t: Tensor) -> Tensor:
        """Return sbar(t) = sigma(t) / a(t), increasing in t."""

    @abstractmethod
    def t_from_noise_to_signal(self, noise_to_signal: Tensor) -> Tensor:
        """Return the t at which sigma / a has the given value, the inverse of noise_to_signal."""

    @abstractmethod
    def timestep(self, t: Tensor) -> Tensor:
        """Return the label of t that a network receives."""

    def marginal_prob(self, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean a(t) x0 [N, *item_shape] and std sigma(t) [N] of x_t | x0."""
        a, sigma = self.marginal(t)
        return per_item(a, x0) * x0, sigma

    def perturb(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Return x_t = a(t) x0 + sigma(t) eps, shape [N, *item_shape]."""
        a, sigma = self.marginal(t)
        return per_item(a, x0) * x0 + per_item(sigma, x0) * eps

    def sde(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return drift f(t) x [N, *item_shape] and diffusion g(t) [N] of the forward SDE."""
        f, g = self.drift_diffusion(t)
        return per_item(f, x) * x, g

    def prior_sampling(self, item_shape: tuple[int, ...], noise: Noise) -> Tensor:
        """Draw x_T ~ N(0, prior_std^2 I), shape [noise.count, *item_shape]."""
        return self.prior_std * noise.normal(item_shape)

    def prior_logp(self, z: Tensor) -> Tensor:
        """Return log N(z; 0, prior_std^2 I) in nats, shape [N]."""
        y = z.flatten(1) / self.prior_std
        log_volume = y.shape[1] * (math.log(self.prior_std) + 0.5 * math.log(2 * math.pi))
        return -0.5 * y.square().sum(1) - log_volume

    def sample_times(self, uniform: Tensor) -> Tensor:
        """Map draws u of U[0, 1) to training times t_min + (1 - t_min) u."""
        return self.t_min + (self.T - self.t_min) * uniform

    def grid_points(self, start: float = 1.0) -> int | None:
        """Return how many steps `grid` has at most from start, or None where time is continuous."""
        return None

    def grid(self, steps: int, start: float = 1.0) -> Tensor:
        """Return `steps` descending times from start to t_sampling, float64, evenly spaced in t."""
        return torch.linspace(start, self.t_sampling, steps, dtype=torch.float64)

    def nearest_time(self, noise_to_signal: float) -> float:
        """Return the time at which sigma / a has the given value, or the grid's nearest to it."""
        t = self.t_from_noise_to_signal(torch.tensor(noise_to_signal, dtype=torch.float64))
        return float(self.grid(1, float(t))[0])

    def spec(self) -> dict[str, float | str | int]:
        """Return the name and all parameters, for hashing."""
        return {"process": type(self).__name__, **dataclasses.asdict(self)}
