"""The continuous processes of Song et al. 2021: VE, VP and sub-VP."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from msgm_bench.diffusion.process import Process
from msgm_bench.errors import OptionError


def check_times(t_min: float, t_sampling: float) -> None:
    """Refuse end points outside (0, 1).

    Raises:
        OptionError: if t_min or t_sampling is outside (0, 1).
    """
    if not (0 < t_min < 1 and 0 < t_sampling < 1):
        raise OptionError(f"t_min={t_min}, t_sampling={t_sampling}", "both in (0, 1)")


@dataclass(frozen=True)
class VarianceExploding(Process):
    """VE: a = 1, sigma(t) = sigma_min (sigma_max / sigma_min)^t.

    Units of sigma are the data's.  Source: Song et al. 2021, Eq. 30-31.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    t_min: float = 1e-5
    t_sampling: float = 1e-5

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: unless 0 < sigma_min < sigma_max < inf and the times lie in (0, 1).
        """
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise OptionError(
                f"sigma_min={self.sigma_min}, sigma_max={self.sigma_max}",
                "0 < sigma_min < sigma_max, finite",
            )
        check_times(self.t_min, self.t_sampling)

    @property
    def prior_std(self) -> float:
        """sigma_max."""
        return self.sigma_max

    @property
    def log_ratio(self) -> float:
        """log(sigma_max / sigma_min)."""
        return math.log(self.sigma_max / self.sigma_min)

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (1, sigma(t))."""
        return torch.ones_like(t), self.noise_to_signal(t)

    def drift_diffusion(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return f = 0 and g = sigma(t) sqrt(2 log(sigma_max / sigma_min))."""
        return torch.zeros_like(t), self.noise_to_signal(t) * math.sqrt(2 * self.log_ratio)

    def transition(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha = 1 and variance = sigma_s^2 ((sigma_t / sigma_s)^2 - 1)."""
        sigma_s = self.noise_to_signal(s)
        return torch.ones_like(t), sigma_s.square() * torch.expm1(2 * self.log_ratio * (t - s))

    def noise_to_signal(self, t: Tensor) -> Tensor:
        """Return sigma(t)."""
        return self.sigma_min * torch.exp(self.log_ratio * t)

    def t_from_noise_to_signal(self, noise_to_signal: Tensor) -> Tensor:
        """Return t = log(sigma / sigma_min) / log(sigma_max / sigma_min)."""
        return torch.log(noise_to_signal / self.sigma_min) / self.log_ratio

    def timestep(self, t: Tensor) -> Tensor:
        """Return sigma(t), the label of score_sde's VE networks."""
        return self.noise_to_signal(t)


@dataclass(frozen=True)
class LogSignal(Process):
    """A process given by l(t) = log a(t), with beta(t) = -2 l'(t)."""

    @abstractmethod
    def log_signal(self, t: Tensor) -> Tensor:
        """Return l(t) = log a(t) <= 0."""

    @abstractmethod
    def beta(self, t: Tensor) -> Tensor:
        """Return -2 l'(t), positive, per unit of t."""

    @abstractmethod
    def t_from_log_signal(self, log_signal: Tensor) -> Tensor:
        """Return the t at which log a(t) equals the given value."""


@dataclass(frozen=True)
class UnitVariance(LogSignal):
    """A log-signal process with a^2 + sigma^2 = 1: VP and DDPM."""

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return a = e^l and sigma = sqrt(1 - e^2l)."""
        log_a = self.log_signal(t)
        return torch.exp(log_a), torch.sqrt(-torch.expm1(2 * log_a))

    def drift_diffusion(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return f = -beta / 2 and g = sqrt(beta)."""
        beta = self.beta(t)
        return -0.5 * beta, torch.sqrt(beta)

    def transition(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha = e^(l_t - l_s) and variance = 1 - alpha^2."""
        log_alpha = self.log_signal(t) - self.log_signal(s)
        return torch.exp(log_alpha), -torch.expm1(2 * log_alpha)

    def noise_to_signal(self, t: Tensor) -> Tensor:
        """Return sbar = sqrt(e^-2l - 1)."""
        return torch.sqrt(torch.expm1(-2 * self.log_signal(t)))

    def t_from_noise_to_signal(self, noise_to_signal: Tensor) -> Tensor:
        """Return t(l) at l = -log(1 + sbar^2) / 2."""
        return self.t_from_log_signal(-0.5 * torch.log1p(noise_to_signal.square()))


@dataclass(frozen=True)
class LinearBeta(LogSignal):
    """A linear beta(t) = beta_min + t d, d = beta_max - beta_min.

    Then l(t) = -t^2 d / 4 - t beta_min / 2; beta is per unit of t.
    Source: Song et al. 2021, Eq. 32-33.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-5
    t_sampling: float = 1e-3

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: unless 0 < beta_min <= beta_max < inf and the times lie in (0, 1).
        """
        if not 0 < self.beta_min <= self.beta_max < math.inf:
            raise OptionError(
                f"beta_min={self.beta_min}, beta_max={self.beta_max}",
                "0 < beta_min <= beta_max, finite",
            )
        check_times(self.t_min, self.t_sampling)

    def log_signal(self, t: Tensor) -> Tensor:
        """Return l(t)."""
        return -t * (0.25 * (self.beta_max - self.beta_min) * t + 0.5 * self.beta_min)

    def beta(self, t: Tensor) -> Tensor:
        """Return beta_min + t (beta_max - beta_min)."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def t_from_log_signal(self, log_signal: Tensor) -> Tensor:
        """Return the positive root of l(t) = l, in the form that does not cancel."""
        b, d, m = self.beta_min, self.beta_max - self.beta_min, -log_signal
        return 4 * m / (b + torch.sqrt(b * b + 4 * d * m))

    def timestep(self, t: Tensor) -> Tensor:
        """Return 999 t, the label of score_sde's VP and sub-VP networks."""
        return 999 * t


@dataclass(frozen=True)
class VariancePreserving(LinearBeta, UnitVariance):
    """VP: a = e^l, sigma^2 = 1 - e^2l with a linear beta(t).

    Source: Song et al. 2021, Eq. 11, 32 and 33.
    """


@dataclass(frozen=True)
class SubVariancePreserving(LinearBeta):
    """sub-VP: a = e^l, sigma = 1 - e^2l with a linear beta(t).

    Source: Song et al. 2021, Eq. 28 and 29.
    """

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return a = e^l and sigma = 1 - e^2l."""
        log_a = self.log_signal(t)
        return torch.exp(log_a), -torch.expm1(2 * log_a)

    def drift_diffusion(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return f = -beta / 2 and g = sqrt(beta (1 - e^4l))."""
        beta = self.beta(t)
        return -0.5 * beta, torch.sqrt(-beta * torch.expm1(4 * self.log_signal(t)))

    def transition(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha = e^(l_t - l_s) and variance = (1 - e^2(l_t - l_s)) (1 - e^2(l_t + l_s))."""
        l_s, l_t = self.log_signal(s), self.log_signal(t)
        return torch.exp(l_t - l_s), torch.expm1(2 * (l_t - l_s)) * torch.expm1(2 * (l_t + l_s))

    def noise_to_signal(self, t: Tensor) -> Tensor:
        """Return sbar = 1/a - a = -2 sinh l."""
        return -2 * torch.sinh(self.log_signal(t))

    def t_from_noise_to_signal(self, noise_to_signal: Tensor) -> Tensor:
        """Return t(l) at l = -asinh(sbar / 2)."""
        return self.t_from_log_signal(-torch.asinh(noise_to_signal / 2))
