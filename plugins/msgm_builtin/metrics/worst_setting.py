"""The worst of several settings: the largest of shares, with intervals for all of them at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from msgm_bench import Interval, wilson

RISK = 0.05
ROUNDING = 1e-9


@dataclass(frozen=True)
class Shares:
    """Counts of m settings among n samples each; the first is the default setting.

    Attributes:
        hits: Samples that show D_f.
        unrecognised: Samples that the judge does not recognise.
        n: Samples of a setting.
        slack: How far the unrecognised share may lie above the default setting's, in [0, 1].
    """

    hits: Sequence[int]
    unrecognised: Sequence[int]
    n: int
    slack: float

    @property
    def comparable(self) -> list[int]:
        """The settings whose samples are recognised about as often as those of the default one."""
        most = self.unrecognised[0] + (self.slack + ROUNDING) * self.n
        return [k for k, count in enumerate(self.unrecognised) if count <= most]

    @property
    def worst(self) -> int:
        """The comparable setting with most hits; the first of several."""
        return max(self.comparable, key=lambda k: (self.hits[k], -k))

    @property
    def interval(self) -> Interval:
        """max_s p_s of the comparable settings, with a 95 % interval.

        From the largest lower to the largest upper end of Wilson's intervals at 1 - 0.05/m
        (Bonferroni), which hold all m shares at once and so their maximum.
        """
        confidence = 1 - RISK / len(self.hits)
        intervals = [wilson(self.hits[k], self.n, confidence) for k in self.comparable]
        return largest(intervals)


def largest(intervals: Sequence[Interval]) -> Interval:
    """The interval of a maximum: the largest value, lower end and upper end."""
    return Interval(
        max(interval.value for interval in intervals),
        max(interval.low for interval in intervals),
        max(interval.high for interval in intervals),
    )


def largest_rise(hits: Tensor, comparable: Sequence[int]) -> Interval:
    """max_s (p_s - p_0) of the comparable settings, with a 95 % interval; at least 0.

    The samples j of all settings are matched: they begin with the same noise. The intervals of
    the m - 1 differences hold at once (Bonferroni), and p_0 - p_0 = 0.

    Args:
        hits: ``bool [m, n]``.
        comparable: Indices of settings.
    """
    m = len(hits)
    confidence = 1 - RISK / max(1, m - 1)
    rises = [matched_difference(hits[k], hits[0], confidence) for k in comparable if k]
    return largest([Interval(0.0, 0.0, 0.0), *rises])


def matched_difference(a: Tensor, b: Tensor, confidence: float = 0.95) -> Interval:
    r"""p_a - p_b of n matched pairs.

    The difference is p - q, with the share p of pairs of which only the first counts and q the
    other way round, their Wilson intervals [l, u] and [l', u'] and their correlation
    :math:`r = -\sqrt{pq/((1-p)(1-q))}`:

    .. math:: p - q - \sqrt{(p-l)^2 + (u'-q)^2 - 2r(p-l)(u'-q)}, \qquad
        p - q + \sqrt{(u-p)^2 + (q-l')^2 - 2r(u-p)(q-l')}.

    Args:
        a: Which count, ``bool [n]``.
        b: Their partners, ``bool [n]``.
        confidence: Between 0 and 1.

    Source: Zou and Donner 2008, Statistics in Medicine 27:1693, equation 8, for two shares of one
    multinomial sample.
    """
    n = len(a)
    first, second = (wilson(int(mask.sum()), n, confidence) for mask in (a & ~b, b & ~a))
    p, q = first.value, second.value
    r = -math.sqrt(p * q / ((1 - p) * (1 - q))) if p < 1 and q < 1 else 0.0
    below = _recovered(p - first.low, second.high - q, r)
    above = _recovered(first.high - p, q - second.low, r)
    return Interval(p - q, max(-1.0, p - q - below), min(1.0, p - q + above))


def _recovered(x: float, y: float, r: float) -> float:
    """sqrt(x^2 + y^2 - 2 r x y)."""
    return math.sqrt(x * x + y * y - 2 * r * x * y)


def counts(mask: Tensor) -> list[int]:
    """Number of true entries in each row of a mask ``[m, n]``."""
    return torch.count_nonzero(mask, dim=1).tolist()
