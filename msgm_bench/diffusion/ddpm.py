"""The discrete process of Ho et al. 2020, continued smoothly between its grid points."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from msgm_bench.diffusion.processes import UnitVariance
from msgm_bench.errors import OptionError

NEWTON_STEPS = 8


@dataclass(frozen=True)
class DiscreteDDPM(UnitVariance):
    """DDPM: a = sqrt(alphabar), sigma^2 = 1 - alphabar on the grid t_k = (k+1)/N, k = 0..N-1.

    alphabar_k = prod_{j<=k} (1 - beta_j), beta linear from beta_start to beta_end (per step).
    Between the grid points L = log alphabar is a monotone cubic Hermite spline with knots
    0, 1/N, ..., 1 whose slope at a knot is the harmonic mean of its two neighbours' secants
    (Fritsch & Butland 1984), so that beta(t) = -L'(t) is continuous and positive.
    Source: Ho et al. 2020, Eq. 2 and 4.
    """

    steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: unless steps >= 2 and 0 < beta_start <= beta_end < 1.
        """
        if self.steps < 2:
            raise OptionError(f"steps={self.steps}", "steps >= 2")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise OptionError(
                f"beta_start={self.beta_start}, beta_end={self.beta_end}",
                "0 < beta_start <= beta_end < 1",
            )

    @property
    def t_min(self) -> float:
        """1/N, the first grid point."""
        return 1 / self.steps

    @property
    def t_sampling(self) -> float:
        """1/N, the first grid point."""
        return 1 / self.steps

    @cached_property
    def betas(self) -> Tensor:
        """beta_k, k = 0..N-1, float64 on the CPU."""
        return torch.linspace(self.beta_start, self.beta_end, self.steps, dtype=torch.float64)

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """alphabar_k, k = 0..N-1, float64 on the CPU."""
        return torch.exp(self._knots[1:])

    @cached_property
    def _knots(self) -> Tensor:
        """L at the knots 0, 1/N, ..., 1."""
        log_alphas = torch.log1p(-self.betas)
        return torch.cat([torch.zeros(1, dtype=torch.float64), torch.cumsum(log_alphas, 0)])

    @cached_property
    def _slopes(self) -> Tensor:
        """dL/dq at the knots, q = N t."""
        d = self._knots.diff()
        inner = 2 * d[1:] * d[:-1] / (d[1:] + d[:-1])
        return torch.cat([d[:1], inner, d[-1:]])

    def log_signal(self, t: Tensor) -> Tensor:
        """Return l(t) = L(t) / 2."""
        q = t.double() * self.steps
        k = q.floor().long().clamp(0, self.steps - 1)
        return (0.5 * self._hermite(k, q - k)[0]).to(t.dtype)

    def beta(self, t: Tensor) -> Tensor:
        """Return -L'(t), per unit of t."""
        q = t.double() * self.steps
        k = q.floor().long().clamp(0, self.steps - 1)
        return (-self.steps * self._hermite(k, q - k)[1]).to(t.dtype)

    def t_from_log_signal(self, log_signal: Tensor) -> Tensor:
        """Return t(l): the knot interval by bisection, then Newton on its cubic."""
        L = 2 * log_signal.double()
        knots, _ = _spline(self, L.device)
        k = (torch.searchsorted(-knots, -L.contiguous()) - 1).clamp(0, self.steps - 1)
        w = ((L - knots[k]) / (knots[k + 1] - knots[k])).clamp(0, 1)
        for _ in range(NEWTON_STEPS):
            value, slope = self._hermite(k, w)
            w = (w - (value - L) / slope).clamp(0, 1)
        return ((k + w) / self.steps).to(log_signal.dtype)

    def timestep(self, t: Tensor) -> Tensor:
        """Return N t - 1: the index k = 0..N-1 on the grid, a fraction between grid points."""
        label = t * self.steps - 1
        k = label.round()
        return torch.where((label - k).abs() <= self.steps * torch.finfo(t.dtype).eps, k, label)

    def sample_times(self, uniform: Tensor) -> Tensor:
        """Map draws u of U[0, 1) to grid times (k+1)/N, k = floor(u N)."""
        k = (uniform * self.steps).floor().clamp(max=self.steps - 1)
        return (k + 1) / self.steps

    def grid_points(self, start: float = 1.0) -> int:
        """Return the number of grid times from the one nearest to start down to 1/N."""
        return min(max(round(start * self.steps), 1), self.steps)

    def grid(self, steps: int, start: float = 1.0) -> Tensor:
        """Return `steps` descending grid times from the one nearest to start down to 1/N, float64.

        Raises:
            OptionError: if the grid has fewer than `steps` points up to start.
        """
        last = self.grid_points(start)
        if steps > last:
            raise OptionError(
                f"{steps} steps from t={start:g} on a DDPM grid of {self.steps}",
                f"at most {last} steps",
                "lower `steps` or train the process on a finer grid",
            )
        q = torch.linspace(last, 1, steps, dtype=torch.float64).round()
        return q / self.steps

    def _hermite(self, k: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return L and dL/dq at q = k + w, w in [0, 1]."""
        L, m = _spline(self, w.device)
        rise = L[k + 1] - L[k]
        c2 = 3 * rise - 2 * m[k] - m[k + 1]
        c3 = m[k] + m[k + 1] - 2 * rise
        value = L[k] + w * (m[k] + w * (c2 + w * c3))
        return value, m[k] + w * (2 * c2 + 3 * w * c3)


@lru_cache(maxsize=64)
def _spline(process: DiscreteDDPM, device: torch.device) -> tuple[Tensor, Tensor]:
    """L and dL/dq at the knots, copied to ``device`` once: the host waits for it at each copy."""
    return process._knots.to(device), process._slopes.to(device)
