"""The Frechet distance between Gaussians: pure functions in float64."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from msgm_bench import MsgmBenchError


class TooFewError(MsgmBenchError):
    """Fewer items than a covariance of full rank needs."""


@dataclass(frozen=True)
class Moments:
    """What a set of features is reduced to.

    Attributes:
        mean: ``float64 [F]``.
        covariance: ``float64 [F, F]``, divisor n - 1.
        n: Items.
    """

    mean: Tensor
    covariance: Tensor
    n: int

    @classmethod
    def of(cls, parts: Iterable[Tensor]) -> Moments:
        """The moments of features ``[N, F]`` that come in parts.

        Sums are taken around the first part's mean, so that nothing cancels.

        Raises:
            TooFewError: There is at most one item.
        """
        n, shift = 0, None
        total = square = torch.zeros(())
        for part in parts:
            x = part.detach().cpu().double()
            shift = x.mean(dim=0) if shift is None else shift
            d = x - shift
            n, total, square = n + len(x), total + d.sum(dim=0), square + d.T @ d
        if shift is None or n < 2:
            raise TooFewError(f"{n} items: a covariance needs at least 2")
        return cls(shift + total / n, (square - torch.outer(total, total) / n) / (n - 1), n)


def frechet_distance(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), at least 0, in squared feature units.

    The trace of the root is the sum of the roots of the eigenvalues of R S_b R, R = S_a^(1/2),
    which is symmetric.

    Raises:
        TooFewError: A set has no more items than features, so that its covariance is singular.

    Source: Dowson and Landau (1982), Journal of Multivariate Analysis 12:450; Heusel et al. 2017,
    arXiv:1706.08500, equation 6.
    """
    dim = len(a.mean)
    for moments in (a, b):
        if moments.n <= dim:
            raise TooFewError(
                f"{moments.n} items: a covariance of {dim} features needs more than {dim}"
            )
    values, vectors = torch.linalg.eigh(a.covariance)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    product = root @ b.covariance @ root
    overlap = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0).sqrt().sum()
    spread = a.covariance.trace() + b.covariance.trace() - 2 * overlap
    return max(0.0, float((a.mean - b.mean).square().sum() + spread))
