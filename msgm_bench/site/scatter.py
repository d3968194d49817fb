"""Forgetting against retained quality as inline SVG whose points are links to their rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from msgm_bench.boards.axis import Axis, Label, place_labels
from msgm_bench.boards.board import Quantity
from msgm_bench.boards.pages import BoardPage
from msgm_bench.boards.plot import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Pair,
    Point,
    axis_label,
    most,
    points_of,
    staircase,
    vertical,
)
from msgm_bench.boards.ranking import direction_sign, series
from msgm_bench.site.texts import plain

NAME = 24  # letters of a method in the plot


@dataclass(frozen=True)
class Spot:
    """A method in the plot, in pixels.

    Attributes:
        method: Its name.
        role: ``reference``, ``baseline``, ``ranked`` or ``outside``.
        x: Its centre.
        y: Its centre.
        bars: Ends of both intervals: left, right, top, bottom.
        values: Both values in words.
    """

    method: str
    role: str
    x: float
    y: float
    bars: tuple[float, float, float, float]
    values: str


@dataclass(frozen=True)
class Scatter:
    """The drawing of a board.

    Attributes:
        x: Axis of the retained quality.
        y: Axis of the forgetting.
        xlabel: What x is.
        ylabel: What y is.
        gate: Pixel of the gate, or None where nothing is outside.
        front: Corners of the Pareto front.
        spots: The methods.
        labels: Their names, beside each other.
    """

    x: Axis
    y: Axis
    xlabel: str
    ylabel: str
    gate: float | None
    front: list[Pair]
    spots: list[Spot]
    labels: list[Label]
    width: int = WIDTH
    height: int = HEIGHT
    left: float = LEFT
    right: float = RIGHT
    top: float = TOP
    bottom: float = BOTTOM


def scatter(page: BoardPage) -> Scatter | None:
    """The drawing of a board; None where no method has both values."""
    board, frame = page.board, page.frame
    points = points_of(board, frame, page.ranked)
    if not points:
        return None
    limit = board.gate.limits[0]
    names = {row.method for row in page.ranked if row.rank is not None}
    inside = [point for point in points if point.method in names]
    edge = _edge(page)
    bounds = [value for point in inside or points for value in point.x]
    bounds += [] if edge is None else [edge]
    x = Axis.covering(bounds, direction_sign(frame, limit), LEFT, RIGHT, most(frame, limit))
    y = vertical(points, direction_sign(frame, board.rank), most(frame, board.rank))
    words = _words(frame, limit), _words(frame, board.rank)
    spots = [_spot(point, x, y, words) for point in points]
    marks = [Label(_name(spot.method), spot.x, spot.y) for spot in spots]
    return Scatter(
        x,
        y,
        axis_label(board, frame, limit),
        axis_label(board, frame, board.rank),
        None if edge is None else x(edge),
        staircase([(x(a), y(b)) for a, b in (point.mean for point in inside)]),
        spots,
        place_labels(marks, (LEFT, TOP, RIGHT, BOTTOM)),
    )


def _edge(page: BoardPage) -> float | None:
    """The worst quality within the gate, or None without a value of the reference."""
    limit = page.board.gate.limits[0]
    reference = series(page.frame, page.board.gate.reference, limit).mean()
    if np.isnan(reference):
        return None
    return float(reference + direction_sign(page.frame, limit) * limit.within)


def _words(frame: pd.DataFrame, quantity: Quantity) -> Callable[[float], str]:
    """A value of a quantity with its unit."""
    units = sorted(set(frame.loc[frame["key"] == str(quantity.key), "unit"]) - {"", "1"})
    return lambda value: " ".join([f"{value:.4g}", *map(plain, units)])


def _spot(
    point: Point, x: Axis, y: Axis, words: tuple[Callable[[float], str], Callable[[float], str]]
) -> Spot:
    """The point in pixels; no bar of a value that stands at the border."""
    ends_x = point.x[1:] if x.holds(point.x[0]) else (point.x[0], point.x[0])
    ends_y = point.y[1:] if y.holds(point.y[0]) else (point.y[0], point.y[0])
    bars = (x(ends_x[0]), x(ends_x[1]), y(ends_y[0]), y(ends_y[1]))
    values = f"{words[1](point.y[0])}, {words[0](point.x[0])}"
    return Spot(point.method, point.role, x(point.x[0]), y(point.y[0]), bars, values)


def _name(method: str) -> str:
    return plain(method if len(method) <= NAME else f"{method[: NAME - 1]}…")
