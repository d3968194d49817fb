"""What a Frechet distance is recomputed from: features, or moments where features are large.

Features are float32, and the distance follows with its interval. Of moments the lower triangle of
each covariance is stored, in float32, and the influence of each item, from which the interval
follows; that these are those of the items is the maker's word.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msgm_bench import Evidence, Interval, MsgmBenchError
from msgm_builtin.metrics.frechet import (
    CHUNK,
    Moments,
    TooFewError,
    frechet_distance,
    frechet_interval,
    influence_interval,
    influences,
)

FEATURES_LIMIT = 8 * 2**20  # bytes of features, above which moments are shipped
MOST_FEATURES = 4096  # F of a stranger's evidence: a root of F x F takes F^3
FROM_FEATURES, FROM_MOMENTS = 1e-4, 1e-3  # tolerances, relative above 1


def frechet_evidence(x: Tensor, other: Moments | Tensor, full: bool) -> dict[str, Tensor]:
    """Features ``x [N, F]`` and what they are compared with, or the moments of both.

    Args:
        x: Features.
        other: Moments, or features of the partners of ``x``.
        full: Whether features are meant however large they are.

    Raises:
        TooFewError: There are too few items for a distance.
    """
    sets = [x] if isinstance(other, Moments) else [x, other]
    size = sum(part.numel() * part.element_size() for part in sets)
    reference = other if isinstance(other, Moments) else None
    if full or size <= FEATURES_LIMIT:
        if len(x) <= x.shape[1]:
            raise TooFewError(f"{len(x)} items of {x.shape[1]} features")
        stored = {} if reference is None else _packed("reference", reference, torch.float64)
        return dict(zip(("features", "partners"), sets, strict=False)) | stored
    a = Moments.of(x.split(CHUNK))
    b = Moments.of(other.split(CHUNK)) if isinstance(other, Tensor) else other
    frechet_distance(a, b)
    packed = (_packed(name, m, torch.float32) for name, m in (("items", a), ("reference", b)))
    return {"influences": influences(x, a, other, b)} | next(packed) | next(packed)


def recomputed_interval(evidence: Evidence) -> tuple[Interval, int]:
    """The distance with its interval, and the number of items.

    Raises:
        MsgmBenchError: The evidence is of no distance, or of too few items.
    """
    if "features" in evidence:
        x = _features(evidence, "features")
        if "partners" in evidence:
            partners = _features(evidence, "partners")
            if partners.shape != x.shape:
                raise MsgmBenchError("features and partners differ in shape", "pairs of items")
            return frechet_interval(x, partners), len(x)
        return frechet_interval(x, _unpacked(evidence, "reference")), len(x)
    a, b = (_unpacked(evidence, name) for name in ("items", "reference"))
    influence = evidence.numbers("influences")
    if len(influence) != a.n or len(a.mean) != len(b.mean):
        raise MsgmBenchError(f"{len(influence)} influences of {a.n} items", "one an item")
    return influence_interval(frechet_distance(a, b), influence), a.n


def frechet_tolerance(evidence: Evidence) -> float:
    """Rounding of the eigenvalues, or of moments in float32."""
    return FROM_FEATURES if "features" in evidence else FROM_MOMENTS


def _features(evidence: Evidence, name: str) -> Tensor:
    x = evidence.numbers(name, 2)
    if not x.shape[1] < len(x) or x.shape[1] > MOST_FEATURES or not bool(x.isfinite().all()):
        raise MsgmBenchError(
            f"the evidence {name!r} is {tuple(x.shape)}",
            f"finite, more items than features, and at most {MOST_FEATURES} of these",
        )
    return x


def _packed(name: str, moments: Moments, dtype: torch.dtype) -> dict[str, Tensor]:
    """Mean, lower triangle of the covariance, and number of items."""
    rows, columns = torch.tril_indices(len(moments.mean), len(moments.mean))
    return {
        f"{name}_mean": moments.mean.to(dtype),
        f"{name}_covariance": moments.covariance[rows, columns].to(dtype),
        f"{name}_n": torch.tensor(moments.n),
    }


def _unpacked(evidence: Evidence, name: str) -> Moments:
    mean, triangle = evidence.numbers(f"{name}_mean"), evidence.numbers(f"{name}_covariance")
    F = len(mean)
    if F > MOST_FEATURES or len(triangle) != F * (F + 1) // 2:
        raise MsgmBenchError(
            f"{name}: a mean of {F} and {len(triangle)} covariances",
            f"F (F + 1) / 2 of them, F at most {MOST_FEATURES}",
        )
    if not bool(mean.isfinite().all() and triangle.isfinite().all()):
        raise MsgmBenchError(f"the moments {name!r} are not finite", "finite moments")
    covariance = torch.zeros(F, F, dtype=torch.float64)
    rows, columns = torch.tril_indices(F, F)
    covariance[rows, columns] = triangle
    covariance[columns, rows] = triangle
    return Moments(mean, covariance, evidence.count(f"{name}_n"))
