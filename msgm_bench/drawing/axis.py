"""Axes of a plot, with their ticks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LOG_RATIO = 30.0  # largest over smallest value from which an axis is logarithmic
LETTER, LINE = 6.4, 13.0  # pixels: width of a letter and height of a line at 11 px
Tick = tuple[float, str]


@dataclass(frozen=True)
class Axis:
    """Values to pixels; a value outside stands at the border.

    Attributes:
        low: Smallest value.
        high: Largest value.
        worst: Pixel of the worse end.
        best: Pixel of the better end.
        sign: 1 where lower is better, -1 where higher is.
        log: Whether it is logarithmic.
        most: Largest value that can be; no tick lies beyond.
    """

    low: float
    high: float
    worst: float
    best: float
    sign: int
    log: bool = False
    most: float = math.inf

    @classmethod
    def covering(
        cls, values: Iterable[float], sign: int, worst: float, best: float, most: float = math.inf
    ) -> Axis:
        """The axis over all finite values with a margin; from 0 to 1 where there is none."""
        finite = [value for value in values if math.isfinite(value)]
        if not finite:
            return cls(0.0, 1.0, worst, best, sign)
        low, high = min(finite), max(finite)
        margin = 0.08 * (high - low) or 0.05 * abs(high) or 0.5
        return cls(low - margin, high + margin, worst, best, sign, most=most)

    @classmethod
    def spreading(cls, values: Iterable[float], worst: float, best: float) -> Axis | None:
        """A logarithmic axis, lower is better, over the positive values; None if they are near."""
        positive = [value for value in values if 0 < value < math.inf]
        if not positive or max(positive) / min(positive) < LOG_RATIO:
            return None
        low, high = min(positive), max(positive)
        margin = (high / low) ** 0.1
        return cls(low / margin, high * margin, worst, best, 1, log=True)

    def holds(self, value: float) -> bool:
        """Whether a value is within the ends."""
        return self.low <= value <= self.high

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        inside = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(inside / self.low) / math.log(self.high / self.low)
        else:
            share = (inside - self.low) / (self.high - self.low)
        share = 1 - share if self.sign > 0 else share
        return self.worst + share * (self.best - self.worst)

    @property
    def ticks(self) -> list[Tick]:
        """Pixels and texts of round values."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
            return [(self(value), f"{value:g}") for value in values if self.holds(value)]
        span = (self.high - self.low) / 7
        power = 10.0 ** math.floor(math.log10(span))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span)
        first = math.ceil(self.low / step)
        last = math.floor(min(self.high, self.most) / step)
        decimals = max(0, -math.floor(math.log10(step)))
        return [(self(n * step), f"{n * step + 0.0:.{decimals}f}") for n in range(first, last + 1)]


def covered(spreads: Iterable[tuple[float, float, float]]) -> list[float]:
    """What an axis covers: means, and ends of intervals no further off than the means' range."""
    listed = list(spreads)
    means = [mean for mean, _, _ in listed if math.isfinite(mean)]
    if not means:
        return []
    span = (max(means) - min(means)) or math.inf
    low, high = min(means) - span, max(means) + span
    return means + [end for _, *ends in listed for end in ends if low <= end <= high]


def spaced(ticks: Iterable[Tick], is_upright: bool = False) -> list[Tick]:
    """Every k-th tick from the left or the top, with the least k for which no texts touch.

    Args:
        ticks: Pixels and texts.
        is_upright: Whether they stand above each other.
    """
    listed = sorted(ticks)
    chosen = (listed[::k] for k in range(1, len(listed) + 1))
    return next((some for some in chosen if not _touch(some, is_upright)), listed)


def _touch(ticks: Sequence[Tick], is_upright: bool) -> bool:
    """Whether two neighbours are nearer than a line, or their texts than a letter."""
    return any(
        following - at < (LINE if is_upright else LETTER * (1 + (len(a) + len(b)) / 2))
        for (at, a), (following, b) in itertools.pairwise(ticks)
    )
