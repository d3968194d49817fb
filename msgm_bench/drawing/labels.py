"""Labels that do not lie on each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgm_bench.drawing.axis import LETTER, LINE

MARKER = 6.0  # pixels: half a marker with its margin
DISTANCES = (9.0, 20.0, 34.0, 50.0, 70.0, 92.0, 118.0)
DIRECTIONS = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1))
Box = tuple[float, float, float, float]


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
