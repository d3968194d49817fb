"""Differences between methods that two honest draws of 10,000 samples have, too."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from msgm_bench import Interval, wilson
from msgm_paper.findings.finding import Finding, Number
from msgm_paper.findings.places import values_at
from msgm_paper.tables import PublishedValue

NAME, METRIC = "ties", "ur:dog"
N = 10_000  # samples behind each ratio, section 4.1
LEVEL = 0.05
Count = tuple[int, int]


@dataclass(frozen=True)
class Pair:
    """Two methods on one model and class.

    Attributes:
        a: The first ratio.
        b: The second.
    """

    a: PublishedValue
    b: PublishedValue

    @property
    def p(self) -> float:
        """Two-sided p-value of equal proportions."""
        return equality_p(_count(self.a), _count(self.b))

    @property
    def is_tie(self) -> bool:
        """Whether nothing separates them at 5 %."""
        return self.p >= LEVEL

    @property
    def number(self) -> Number:
        """Their difference in points, with its interval."""
        interval = difference(_count(self.a), _count(self.b)).scaled(100)
        where = f"table {self.a.table}, {self.a.backbone}"
        return Number.of(f"{where}: {self.a.method} - {self.b.method}", interval, "points", 1)


def find() -> Finding:
    """All pairs of methods on the class dog: which of them differ by more than chance."""
    pairs = [*dog_pairs()]
    ties = [pair for pair in pairs if pair.is_tie]
    unseen = [
        pair
        for pair in pairs
        if pair.a.table == 2 and pair.b.method == "unseen" and pair.a.method in ("ort", "obt")
    ]
    (erasediff,) = values_at(table=2, metric=METRIC, method="erasediff")
    lowest = min(entry.value for entry in values_at(table=2, metric=METRIC))
    tied = sum(pair.is_tie for pair in unseen)
    return Finding(
        NAME,
        "tables 2 and 6, rows `dog`; section 4.2",
        "MSGM achieves the lowest unlearning rate compared to Unseen across all datasets.",
        f"Unlearning ratios of {N:,} samples each (section 4.1), by the test of two proportions at "
        "5 %, without a correction for the number of pairs; intervals by Newcombe (1998), method "
        "10. Noise of training seeds, which the paper does not state, would come on top.",
        tuple(pair.number for pair in ties),
        f"{len(ties)} of {len(pairs)} differences between methods that unlearn are ties (those "
        f"above). In table 2, {tied} of "
        f"{len(unseen)} variants of MSGM cannot be told from Unseen on dog, and EraseDiff's "
        f"{erasediff.value:g} % is "
        + ("the lowest of all." if erasediff.value == lowest else "not the lowest."),
    )


def dog_pairs() -> Iterator[Pair]:
    """Pairs of methods that have unlearned, by table and backbone."""
    entries = [entry for entry in values_at(metric=METRIC) if entry.method != "standard"]
    for _, group in itertools.groupby(entries, key=lambda entry: (entry.table, entry.backbone)):
        yield from itertools.starmap(Pair, itertools.combinations(group, 2))


def equality_p(a: Count, b: Count) -> float:
    """Two-sided p of equal proportions k/n and j/m, by the pooled normal approximation.

    z = (k/n - j/m) / sqrt(p (1 - p) (1/n + 1/m)), p = (k + j) / (n + m).

    Source: the chi^2 test of Pearson (1900), Philosophical Magazine 50:157, with one degree of
    freedom and without a correction for continuity.
    """
    (k, n), (j, m) = a, b
    p = (k + j) / (n + m)
    if not 0 < p < 1:
        return 1.0
    z = (k / n - j / m) / math.sqrt(p * (1 - p) * (1 / n + 1 / m))
    return math.erfc(abs(z) / math.sqrt(2))


def difference(a: Count, b: Count) -> Interval:
    """k/n - j/m with its 95 % interval from the two of Wilson.

    Source: Newcombe (1998), Statistics in Medicine 17:873, method 10.
    """
    first, second = wilson(*a), wilson(*b)
    value = first.value - second.value
    low = value - math.hypot(first.value - first.low, second.high - second.value)
    high = value + math.hypot(first.high - first.value, second.value - second.low)
    return Interval(value, low, high)


def _count(entry: PublishedValue) -> Count:
    return round(entry.value * N / 100), N
