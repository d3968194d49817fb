"""Axes of a plot, with their ticks, and labels that do not lie on each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LOG_RATIO = 30.0  # largest over smallest value from which an axis is logarithmic
LETTER, LINE = 6.4, 13.0  # pixels: width of a letter and height of a line at 11 px
MARKER = 6.0  # pixels: half a marker with its margin
DISTANCES = (9.0, 20.0, 34.0, 50.0, 70.0, 92.0, 118.0)
DIRECTIONS = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1))
Box = tuple[float, float, float, float]


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
    def ticks(self) -> list[tuple[float, str]]:
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
        digits = max(0, -math.floor(math.log10(step)))
        return [(self(n * step), f"{n * step + 0.0:.{digits}f}") for n in range(first, last + 1)]


@dataclass(frozen=True)
class Label:
    """A text beside a point, in pixels.

    Attributes:
        text: What it says.
        x: The point's.
        y: The point's.
        left: Left end of the text.
        base: Its base line.
        leader: The end of a line from the point, or None where the text is near.
    """

    text: str
    x: float
    y: float
    left: float = 0.0
    base: float = 0.0
    leader: tuple[float, float] | None = None

    @property
    def width(self) -> float:
        """Pixels, estimated from the number of letters."""
        return LETTER * len(self.text)

    def at(self, distance: float, dx: int, dy: int) -> Label:
        """The label moved ``distance`` from its point in a direction."""
        shift = {1: 0.0, -1: -self.width, 0: -self.width / 2}[dx]
        left = self.x + dx * distance + shift
        base = self.y + dy * distance + LINE / 3
        near = distance <= DISTANCES[0]
        end = (left - shift, base - LINE / 3)
        return Label(self.text, self.x, self.y, left, base, None if near else end)

    @property
    def box(self) -> Box:
        """Left, top, right and bottom."""
        return self.left, self.base - LINE * 0.8, self.left + self.width, self.base + LINE * 0.2


def place_labels(labels: Sequence[Label], frame: Box) -> list[Label]:
    """Each label at the nearest place of its point that is free, one after the other."""
    taboo: list[Box] = [
        (at.x - MARKER, at.y - MARKER, at.x + MARKER, at.y + MARKER) for at in labels
    ]
    placed = []
    for label in labels:
        places = (label.at(d, *direction) for d in DISTANCES for direction in DIRECTIONS)
        free = (at for at in places if _inside(at.box, frame) and not _hits(at.box, taboo))
        chosen = next(free, label.at(DISTANCES[0], 1, 0))
        placed.append(chosen)
        taboo.append(chosen.box)
    return placed


def _inside(box: Box, frame: Box) -> bool:
    return box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]


def _hits(box: Box, others: Iterable[Box]) -> bool:
    return any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
        for other in others
    )
