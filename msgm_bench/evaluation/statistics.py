"""Intervals, corrected rates and paired comparisons: pure functions on float64 numbers.

Two kinds of uncertainty stay apart. Within a run the items vary: ``wilson``,
``rogan_gladen_interval``, ``mean_interval``, ``median_interval``, ``bootstrap``. Between runs the
seeds vary: ``seeds_interval``, ``paired_difference``. No function corrects for the number of
comparisons: each interval holds its confidence by itself, and pages that compare many say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from msgm_bench.errors import MsgmBenchError

Floats = NDArray[np.float64]
Values = Sequence[float] | Floats
Count = tuple[int, int]


class UndefinedError(MsgmBenchError, ValueError):
    """The numbers do not determine the statistic."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its confidence interval.

    Attributes:
        value: The estimate.
        low: Lower end; ``-inf`` where the data do not bound it.
        high: Upper end; ``inf`` where the data do not bound it.
    """

    value: float
    low: float
    high: float

    @property
    def bounded(self) -> bool:
        """Whether both ends are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def half_width(self) -> float:
        """Half of the distance between the ends."""
        return (self.high - self.low) / 2

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """Both ends as a result stores them: None in the place of an infinite one."""
        low, high = (end if math.isfinite(end) else None for end in (self.low, self.high))
        return low, high

    def contains(self, number: float) -> bool:
        """Whether ``low <= number <= high``."""
        return self.low <= number <= self.high

    def scaled(self, factor: float) -> Interval:
        """All three numbers times ``factor > 0``, such as 100 for percent."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    r"""Score interval of a proportion.

    .. math:: \frac{\hat p + z^2/2n \pm z\sqrt{\hat p(1-\hat p)/n + z^2/4n^2}}{1 + z^2/n}

    Args:
        successes: Items that count, 0 to ``n``.
        n: Items in all, at least 1.
        confidence: Between 0 and 1.

    Raises:
        UndefinedError: ``n`` is not positive or ``successes`` not within 0 and ``n``.

    Source: Wilson (1927), JASA 22:209; Brown, Cai, DasGupta (2001), Statistical Science 16:101,
    equation 4.
    """
    p, z = _proportion(successes, n), _normal_quantile(confidence)
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if successes == n else min(1.0, (centre + spread) / scale)
    return Interval(p, min(low, p), max(high, p))


def rogan_gladen(rate: float, sensitivity: float, specificity: float) -> float:
    """True rate behind the rate that an imperfect judge reports.

    ``(rate + specificity - 1) / (sensitivity + specificity - 1)``, clamped to [0, 1].

    Args:
        rate: Share that the judge counted, in [0, 1].
        sensitivity: Share of true cases that the judge counts.
        specificity: Share of other cases that the judge does not count.

    Raises:
        UndefinedError: A rate is outside [0, 1], or ``sensitivity + specificity <= 1``: a judge
            no better than chance has no inverse.

    Source: Rogan and Gladen (1978), American Journal of Epidemiology 107:71, equation 2.
    """
    for name, share in (("rate", rate), ("sensitivity", sensitivity), ("specificity", specificity)):
        if not 0 <= share <= 1:
            raise UndefinedError(f"{name} is {share}", "a share between 0 and 1")
    youden = _youden(sensitivity, specificity)
    return min(1.0, max(0.0, (rate + specificity - 1) / youden))


def rogan_gladen_interval(
    judged: Count, positives: Count, negatives: Count, confidence: float = 0.95
) -> Interval:
    """``rogan_gladen`` with the noise of the rate and of both calibration counts.

    With ``V(q') = q'(1-q')/n'``, ``p' = (k + z²/2) / (n + z²)``, ``Se' = (k + 1) / (n + 2)``,
    ``Sp'`` alike, ``J = Se' + Sp' - 1`` and ``π' = (p' + Sp' - 1) / J``, the ends are
    ``π' + 2z²[π' V(Se') - (1-π') V(Sp')] ± z √(V(p') + π'² V(Se') + (1-π')² V(Sp')) / J``,
    clamped to [0, 1] and, where they would leave the estimate out, widened to it.

    Args:
        judged: Items that the judge counted, and items judged.
        positives: Real cases that it counted (the hits), and real cases judged.
        negatives: Other real items that it did not count, and other real items judged.
        confidence: Between 0 and 1.

    Raises:
        UndefinedError: As ``rogan_gladen``, or too few counts to tell the judge from chance.

    Source: Lang and Reiczigel (2014), Preventive Veterinary Medicine 113:13, section 2.
    """
    value = rogan_gladen(*(_proportion(*count) for count in (judged, positives, negatives)))
    z = _normal_quantile(confidence)
    (k, n), (hits, n_se), (rejects, n_sp) = judged, positives, negatives
    p, se, sp = (k + z * z / 2) / (n + z * z), (hits + 1) / (n_se + 2), (rejects + 1) / (n_sp + 2)
    youden = _youden(se, sp)
    rate = (p + sp - 1) / youden
    from_se = rate * se * (1 - se) / (n_se + 2)
    from_sp = (1 - rate) * sp * (1 - sp) / (n_sp + 2)
    centre = rate + 2 * z * z * (from_se - from_sp)
    variance = p * (1 - p) / (n + z * z) + rate * from_se + (1 - rate) * from_sp
    spread = z * math.sqrt(variance) / youden
    low, high = (min(1.0, max(0.0, end)) for end in (centre - spread, centre + spread))
    return Interval(value, min(low, value), max(high, value))


def mean_interval(values: Values, confidence: float = 0.95) -> Interval:
    """Mean with Student's interval ``mean ± t(n-1) s/√n``; one value alone bounds nothing.

    Raises:
        UndefinedError: No value, or one that is not finite.

    Source: Student (1908), Biometrika 6:1.
    """
    x = _array(values)
    if not np.isfinite(x).all():
        what, hint = "a mean over values that are not finite", "median_interval takes infinite ones"
        raise UndefinedError(what, "finite values", hint)
    mean = float(x.mean())
    if x.size == 1:
        return Interval(mean, -math.inf, math.inf)
    error = float(x.std(ddof=1)) / math.sqrt(x.size)
    spread = float(stats.t.ppf((1 + confidence) / 2, x.size - 1)) * error
    return Interval(mean, mean - spread, mean + spread)


def median_interval(values: Values, confidence: float = 0.95) -> Interval:
    """Median with an interval between two order statistics, free of any distribution.

    The ends are the k-th smallest and the k-th largest value for the largest k with
    ``P[Binomial(n, 1/2) < k] <= (1 - confidence) / 2``. Infinite values count as large (or, with
    a minus, as small). With so few values that no k exists (n < 6 at 95 %) nothing is bounded.

    Raises:
        UndefinedError: No value, a NaN, or the median lies between both infinities.

    Source: Conover (1999), Practical Nonparametric Statistics, section 3.2.
    """
    x = np.sort(_array(values))
    if np.isnan(x).any():
        raise UndefinedError("a median over NaN", "numbers, infinite ones included")
    lower, upper = float(x[(x.size - 1) // 2]), float(x[x.size // 2])
    if math.isinf(lower) and math.isinf(upper) and lower != upper:
        raise UndefinedError("the median lies between -inf and inf", "a finite middle")
    value = lower if lower == upper else lower / 2 + upper / 2
    tail = stats.binom.cdf(np.arange((x.size + 1) // 2), x.size, 0.5)
    k = int((tail <= (1 - confidence) / 2).sum())
    if k == 0:
        return Interval(value, -math.inf, math.inf)
    return Interval(value, float(x[k - 1]), float(x[x.size - k]))


def bootstrap(
    values: Values,
    statistic: Callable[[Floats], float],
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Any statistic of independent items (rows of ``values``) with a percentile interval.

    A biased statistic may lie outside its percentile interval; nothing is corrected.

    Args:
        values: Items along the first dimension.
        statistic: From such an array to a number.
        seed: Seed of ``numpy.random.default_rng``, the only source of chance.
        resamples: Number of draws with replacement.
        confidence: Between 0 and 1.

    Raises:
        UndefinedError: No item, or the statistic of a draw is not finite.

    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, section 13.3.
    """
    x, rng = _array(values), np.random.default_rng(seed)
    n = x.shape[0]
    draws = np.array([statistic(x[rng.integers(0, n, n)]) for _ in range(resamples)])
    if not np.isfinite(draws).all():
        raise UndefinedError("a bootstrap draw is not finite", "a statistic finite on every draw")
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(float(statistic(x)), float(low), float(high))


def seeds_interval(values: Values, confidence: float = 0.95) -> Interval:
    """Mean over runs that differ in the seed, with Student's interval.

    Wide where seeds are few: 4.3 standard errors with three. One seed bounds nothing.

    Raises:
        UndefinedError: No value, or one that is not finite.
    """
    return mean_interval(values, confidence)


def paired_difference(
    a: Values, b: Values, confidence: float = 0.95, least_std: float = 0.0
) -> Interval:
    """Mean of ``a - b`` over pairs of runs with the same seed, with Student's interval.

    Zero outside the interval is the two-sided paired t test at ``1 - confidence``. Fewer than
    two pairs bound nothing. The differences are taken to vary by ``least_std`` at least, such as
    rounding makes them.

    Raises:
        UndefinedError: No pair, lengths that differ, or a value that is not finite.

    Source: Student (1908), Biometrika 6:1; the same test as ``scipy.stats.ttest_rel``.
    """
    x, y = _array(a), _array(b)
    if x.shape != y.shape:
        raise UndefinedError(f"{x.size} values against {y.size}", "one pair a seed")
    interval = mean_interval(x - y, confidence)
    if x.size < 2:
        return interval
    t = stats.t.ppf((1 + confidence) / 2, x.size - 1)
    margin = max(interval.high - interval.value, float(t) * least_std / math.sqrt(x.size))
    return Interval(interval.value, interval.value - margin, interval.value + margin)


def _array(values: Values) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        raise UndefinedError("a statistic of no value", "at least one value")
    return x


def _proportion(successes: int, n: int) -> float:
    if not 0 <= successes <= n or n < 1:
        raise UndefinedError(f"{successes} of {n}", "a count between 0 and n, and n at least 1")
    return successes / n


def _youden(sensitivity: float, specificity: float) -> float:
    youden = sensitivity + specificity - 1
    if youden <= 0:
        raise UndefinedError(
            f"sensitivity {sensitivity:.3g} and specificity {specificity:.3g}",
            "a sum above 1",
            "the judge is no better than chance: train it longer or calibrate it on more items",
        )
    return youden


def _normal_quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise UndefinedError(f"confidence {confidence}", "a number between 0 and 1")
    return float(stats.norm.ppf((1 + confidence) / 2))
