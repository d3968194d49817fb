"""Gaussian mixtures, for which every quantity of a diffusion has a closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from msgm_bench.diffusion.noise_prediction import EpsFn
from msgm_bench.diffusion.process import Process
from msgm_bench.errors import OptionError


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """p(x) = sum_k w_k N(x; m_k, Sigma_k), computed in float64; results take x's dtype.

    Attributes:
        weights: w [K], positive; normalised on entry.
        means: m [K, D].
        covariances: Sigma [K, D, D], symmetric and positive definite.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def __post_init__(self) -> None:
        """Convert to float64, normalise and check.

        Raises:
            OptionError: if shapes disagree, a weight is not positive or a covariance is not
                symmetric and positive definite.
        """
        w, m, S = (v.double() for v in (self.weights, self.means, self.covariances))
        if (
            w.ndim != 1
            or m.ndim != 2
            or S.shape != (len(w), m.shape[1], m.shape[1])
            or len(w) != len(m)
        ):
            shapes = (
                f"weights {tuple(w.shape)}, means {tuple(m.shape)}, covariances {tuple(S.shape)}"
            )
            raise OptionError(shapes, "shapes [K], [K, D], [K, D, D]")
        if not bool((w > 0).all()):
            raise OptionError(f"weights {w.tolist()}", "positive")
        if not torch.allclose(S, S.mT) or not bool((torch.linalg.eigvalsh(S) > 0).all()):
            raise OptionError("a covariance matrix", "symmetric and positive definite")
        for name, value in (("weights", w / w.sum()), ("means", m), ("covariances", S)):
            object.__setattr__(self, name, value)

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        """(Lambda [K, D], Q [K, D, D]) of Sigma = Q diag(Lambda) Q^T."""
        values, vectors = torch.linalg.eigh(self.covariances)
        return values, vectors

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, x [N, D] -> [N]."""
        joint, _, _ = self._joint(x, *self._clean(x))
        return torch.logsumexp(joint, 1).to(x.dtype)

    def posterior(self, x: Tensor) -> Tensor:
        """Return p(k | x), x [N, D] -> [N, K]."""
        joint, _, _ = self._joint(x, *self._clean(x))
        return torch.softmax(joint, 1).to(x.dtype)

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw x [n, D], float64, and its component [n], int64."""
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        root = torch.linalg.cholesky(self.covariances)[component]
        return self.means[component] + (root @ z[..., None])[..., 0], component

    def subset(self, indices: Sequence[int]) -> GaussianMixture:
        """Return the mixture of these components, weights renormalised."""
        i = list(indices)
        return GaussianMixture(self.weights[i], self.means[i], self.covariances[i])

    def diffused(self, process: Process, t: float | Tensor) -> GaussianMixture:
        """Return the law of x_t at one time: means a m_k, covariances a^2 Sigma_k + sigma^2 I."""
        a, sigma = process.marginal(torch.as_tensor(t, dtype=torch.float64).cpu().reshape(()))
        eye = torch.eye(self.means.shape[1], dtype=torch.float64)
        return GaussianMixture(
            self.weights, a * self.means, a**2 * self.covariances + sigma**2 * eye
        )

    def eps(self, process: Process) -> EpsFn:
        """Return the exact eps_hat(x, t) = -sigma grad log p_t(x), x [N, D], t [N]."""

        def eps_hat(x: Tensor, t: Tensor) -> Tensor:
            a, sigma = process.marginal(t.double())
            r, mean = self._noise_means(x, a, sigma)
            return torch.einsum("nk,nkd->nd", r, mean).to(x.dtype)

        return eps_hat

    def noise_moments(self, process: Process, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return E[eps | x_t = x] [N, D] and E[eps eps^T | x_t = x] [N, D, D], t [N].

        Given the component, eps | x_t ~ N(sigma C^-1 (x - a m), I - sigma^2 C^-1) with
        C = a^2 Sigma + sigma^2 I.
        """
        a, sigma = process.marginal(t.double())
        r, mean = self._noise_means(x, a, sigma)
        values, Q = (v.to(x.device) for v in self._eigen)
        signal = a[:, None, None].square() * values
        shrunk = signal / (signal + sigma[:, None, None].square())
        covariance = torch.einsum("kij,nkj,klj->nkil", Q, shrunk, Q)
        second = covariance + mean[..., :, None] * mean[..., None, :]
        first = torch.einsum("nk,nkd->nd", r, mean)
        return first.to(x.dtype), torch.einsum("nk,nkij->nij", r, second).to(x.dtype)

    def _clean(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a = 1 and sigma = 0 for every item."""
        one = x.new_ones(x.shape[0], dtype=torch.float64)
        return one, torch.zeros_like(one)

    def _joint(self, x: Tensor, a: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log w_k N(x; a m_k, C_k) [N, K], y = Q^T (x - a m) and C's spectrum [N, K, D]."""
        w, m = self.weights.to(x.device), self.means.to(x.device)
        values, Q = (v.to(x.device) for v in self._eigen)
        a, sigma = a[:, None, None], sigma[:, None, None]
        y = torch.einsum("kij,nki->nkj", Q, x.double()[:, None] - a * m)
        c = a.square() * values + sigma.square()
        log_density = -0.5 * (y.square() / c + torch.log(2 * math.pi * c)).sum(2)
        return torch.log(w) + log_density, y, c

    def _noise_means(self, x: Tensor, a: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return p(k | x_t) [N, K] and E[eps | x_t, k] = sigma Q (y / c) [N, K, D]."""
        joint, y, c = self._joint(x, a, sigma)
        Q = self._eigen[1].to(x.device)
        mean = sigma[:, None, None] * torch.einsum("kij,nkj->nki", Q, y / c)
        return torch.softmax(joint, 1), mean
