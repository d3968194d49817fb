"""Weights of exponential Adams methods: integrals of an exponential times a polynomial."""

from __future__ import annotations

import math
from collections.abc import Sequence


def exponential_weights(nodes: Sequence[float], low: float, high: float, k: float) -> list[float]:
    """w_j with int_low^high e^(k (u - high)) p(u) du = sum_j w_j p(u_j).

    Exact for every polynomial p of a degree below the number of nodes.

    Args:
        nodes: Distinct u_0, ..., u_{m-1}, m <= 4, in any order, inside or outside the interval.
        low: Lower limit; it may lie above ``high``.
        high: Upper limit, at which the exponential is 1.
        k: Exponent; 0: plain Adams methods.

    Source: Hochbruck and Ostermann 2010, section 2.5; Zhang and Chen 2023, arXiv:2204.13902,
    equation 15.
    """
    moments = exponential_moments(low - high, k, len(nodes))
    shifted = [node - high for node in nodes]
    weights = []
    for j, node in enumerate(shifted):
        others = [other for i, other in enumerate(shifted) if i != j]
        scale = math.prod(node - other for other in others)
        pairs = zip(_expand(others), moments, strict=True)
        weights.append(math.fsum(c * moment for c, moment in pairs) / scale)
    return weights


def exponential_moments(low: float, k: float, count: int) -> list[float]:
    """int_low^0 e^(k v) v^p dv for p = 0 .. count-1.

    By parts; where |k low| < 1 that cancels, and the integrals are summed as series of k low.
    """
    if abs(k * low) < 1:
        return [_series(low, k, p) for p in range(count)]
    end = math.exp(k * low)
    moments = [(1 - end) / k]
    for p in range(1, count):
        moments.append((-end * low**p - p * moments[-1]) / k)
    return moments


def _series(low: float, k: float, p: int) -> float:
    """sum_n k^n/n! int_low^0 v^(p+n) dv, to the last bit for |k low| < 1."""
    terms = (
        -((k * low) ** n) * low ** (p + 1) / (math.factorial(n) * (p + n + 1)) for n in range(20)
    )
    return math.fsum(terms)


def _expand(roots: Sequence[float]) -> list[float]:
    """Coefficients of prod (v - root), the constant first."""
    coefficients = [1.0]
    for root in roots:
        shifted = [0.0, *coefficients]
        scaled = [-root * c for c in coefficients] + [0.0]
        coefficients = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients
