"""ROC of two groups of scores: the area and its interval, paired differences, the left end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from msgm_bench import Interval, MsgmBenchError

Floats = NDArray[np.float64]

Z = float(stats.norm.ppf(0.975))
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Placements:
    """Where each score lies among those of the other group; AUC is the mean of either part.

    Attributes:
        positive: Share of negative scores below each positive one, ties half, ``[m]``.
        negative: Share of positive scores above each negative one, ties half, ``[n]``.
    """

    positive: Floats
    negative: Floats

    @classmethod
    def of(cls, positive: Floats, negative: Floats) -> Placements:
        """Placements of ``positive [m]`` and ``negative [n]`` from midranks, in O(N log N).

        Infinite scores are allowed.

        Raises:
            MsgmBenchError: A group is empty.

        Source: Sun and Xu 2014, IEEE Signal Processing Letters 21:1389, algorithm 2.
        """
        m, n = len(positive), len(negative)
        if not m or not n:
            raise MsgmBenchError(f"a ROC of {m} and {n} scores", "one score of each group at least")
        ranks = stats.rankdata(np.concatenate([positive, negative]))
        below = (ranks[:m] - stats.rankdata(positive)) / n
        above = 1 - (ranks[m:] - stats.rankdata(negative)) / m
        return cls(below, above)

    @property
    def auc(self) -> float:
        """Pr[positive > negative] + Pr[equal] / 2, in [0, 1]."""
        return float(self.positive.mean())

    @property
    def interval(self) -> Interval:
        """AUC with its 95 % interval (``auc_interval``)."""
        return auc_interval(self.auc, len(self.positive), len(self.negative))


def auc_interval(auc: float, m: int, n: int) -> Interval:
    r"""Score interval of an AUC of m positive and n negative items: the θ that solve

    .. math:: \hat\theta - \theta = \pm z \sqrt{\frac{\theta (1 - \theta)}{m n}
        \Bigl(1 + n^* \frac{1 - \theta}{2 - \theta} + n^* \frac{\theta}{1 + \theta}\Bigr)},
        \qquad n^* = \frac{m + n}{2} - 1.

    It stays within [0, 1] and has a width at an AUC of 0 or 1.

    Source: Newcombe 2006, Statistics in Medicine 25:559, method 5, on the variance of Hanley and
    McNeil 1982, Radiology 143:29.
    """

    def excess(theta: float) -> float:
        variance = theta * (1 - theta) / (m * n)
        variance *= 1 + (0.5 * (m + n) - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return abs(auc - theta) - Z * math.sqrt(variance)

    tiny = 1e-12  # theta = auc solves it, too, where auc is 0 or 1
    low = 0.0 if auc <= tiny else optimize.brentq(excess, 0.0, min(auc, 1 - tiny))
    high = 1.0 if auc >= 1 - tiny else optimize.brentq(excess, max(auc, tiny), 1.0)
    return Interval(auc, min(float(low), auc), max(float(high), auc))


def auc_difference(a: Placements, b: Placements) -> Interval:
    """AUC of ``a`` less that of ``b``, two scores of the same items, with its 95 % interval.

    Raises:
        MsgmBenchError: They are not of the same numbers of items.

    Source: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837, equations 4 to 6.
    """
    parts = ((a.positive, b.positive), (a.negative, b.negative))
    variance = 0.0
    for x, y in parts:
        if len(x) != len(y):
            raise MsgmBenchError(f"scores of {len(x)} and of {len(y)} items", "the same items")
        variance += float(np.var(x - y, ddof=1)) / len(x) if len(x) > 1 else math.inf
    value, spread = a.auc - b.auc, Z * math.sqrt(variance)
    return Interval(value, max(-1.0, value - spread), min(1.0, value + spread))


def true_positives(positive: Floats, negative: Floats, false_positive_rate: float) -> int:
    """Positive scores beyond a threshold that at most such a share of negative ones exceeds."""
    most = math.floor(false_positive_rate * len(negative))
    threshold = np.sort(negative)[len(negative) - 1 - most]
    return int((positive > threshold).sum())


def exact_share(k: int, n: int) -> Interval:
    """k / n with Clopper and Pearson's 95 % interval.

    Source: Clopper and Pearson 1934, Biometrika 26:404.
    """
    low, high = stats.binomtest(k, n).proportion_ci(CONFIDENCE, method="exact")
    return Interval(k / n, float(low), float(high))
