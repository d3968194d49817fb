r"""Power of the paired t test over seeds: how many seeds and items tell two methods apart.

With S common seeds a ranking tests the differences D_s = x_s - y_s by Student's t. If they are
normal with mean delta and variance sigma^2,

.. math:: \text{power}(S) = P[|T| > t_{1 - \alpha/2}(S - 1)], \quad
          T \sim t(S - 1; \delta\sqrt{S}/\sigma) \text{ noncentral}.

The variance has a part of the seeds and one of the items, which falls with their number n:

.. math:: \sigma^2(n) = \tau^2 + \omega^2 / n.

Seeds separate whatever differs, items only down to tau: where ``tau sqrt(S)`` is too large for
delta, no number of items is enough.

Source: Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, sections 2.2 and
2.3 (paired samples); Owen (1965), Biometrika 52:437, for the noncentral t.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import optimize, stats

LEVEL = 0.05
"""Chance that the two-sided test tells equal methods apart."""
WANTED = 0.8
"""Power that is planned for."""
MOST_SEEDS = 1000
LARGE = 50.0  # delta / sigma beyond which two seeds have a power of 1 - 1e-7


@dataclass(frozen=True)
class PairedSpread:
    """What the stored seeds say about the difference of two methods.

    Attributes:
        seeds: Common seeds S, at least 2.
        difference: Mean delta of the paired differences.
        variance: Their variance sigma^2 over seeds, items included.
        items: Part ``omega^2 / n`` of the items; None where it is unknown.
        n: Items of a result.
    """

    seeds: int
    difference: float
    variance: float
    items: float | None
    n: int

    @property
    def sd(self) -> float:
        """Sigma."""
        return math.sqrt(self.variance)

    @property
    def item_share(self) -> float | None:
        """The items' part of the variance, 0 to 1; None where it is unknown or nothing varies."""
        if self.items is None or self.variance == 0:
            return None
        return min(1.0, self.items / self.variance)

    @property
    def detectable(self) -> float:
        """The difference that S seeds of n items show with the wanted power."""
        return detectable_effect(self.seeds) * self.sd

    @property
    def seeds_needed(self) -> int | None:
        """Fewest seeds, of n items, that show delta; None beyond ``MOST_SEEDS``."""
        if self.difference == 0:
            return None
        return seeds_needed(abs(self.difference) / self.sd if self.sd else math.inf)

    @property
    def items_needed(self) -> float | None:
        """Fewest items of a result, of S seeds, that show delta.

        Infinite where the seeds alone vary too much, None where the items' part is unknown.
        """
        share = self.item_share
        if share is None:
            return None
        allowed = (self.difference / detectable_effect(self.seeds)) ** 2
        left = allowed - (1 - share) * self.variance
        return math.inf if left <= 0 else math.ceil(self.n * share * self.variance / left) or 1.0


def power(effect: float, seeds: int) -> float:
    """Chance that the paired t test over ``seeds`` shows a difference of ``effect`` sigmas.

    Args:
        effect: ``|delta| / sigma``, from 0 to infinity.
        seeds: S, at least 2.
    """
    if effect == 0:
        return LEVEL
    if effect > LARGE:
        return 1.0
    df = seeds - 1
    limit = stats.t.ppf(1 - LEVEL / 2, df)  # T^2 is noncentral F(1, df), which has no tail to add
    return float(stats.ncf.sf(limit**2, 1, df, seeds * effect**2))


def detectable_effect(seeds: int) -> float:
    """``delta / sigma`` that ``seeds`` show with the wanted power."""
    return float(optimize.brentq(lambda effect: power(effect, seeds) - WANTED, 0.0, LARGE))


def seeds_needed(effect: float) -> int | None:
    """Fewest seeds with the wanted power; None beyond ``MOST_SEEDS``."""
    low, high = 1, 2
    while power(effect, high) < WANTED:
        low, high = high, 2 * high
        if low >= MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if power(effect, middle) < WANTED else (low, middle)
    return high if high <= MOST_SEEDS else None


def sd_factors(seeds: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of the sigma that ``seeds`` normal values have, as factors of it.

    ``sqrt((S - 1) / q)`` with both quantiles q of chi squared: three seeds leave 0.52 to 6.28.
    """
    df, tail = seeds - 1, (1 - confidence) / 2
    low, high = stats.chi2.ppf([1 - tail, tail], df)
    return math.sqrt(df / low), math.sqrt(df / high)
