"""Forgetting against retained quality, in pixels: axes, gate, Pareto front, a point a method.

x is the first quantity of the gate, y the one that ranks; both axes are turned so that better is
right and up. A point is the mean over seeds with its 95 % interval. The front is the boundary of
what some ranked method reaches in both quantities. x covers the ranked methods and the gate; a
method beyond it stands at the border.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from msgm_bench.boards.board import Board, Quantity
from msgm_bench.boards.ranking import RankedRow, direction_sign, rows, series
from msgm_bench.boards.render import label_of
from msgm_bench.drawing.axis import Axis
from msgm_bench.drawing.labels import Label, place_labels
from msgm_bench.errors import clean
from msgm_bench.evaluation.statistics import seeds_interval

LEFT, RIGHT, TOP, BOTTOM = 78.0, 700.0, 40.0, 372.0
WIDTH, HEIGHT = 720, 440
NAME = 24  # letters of a method in the plot
Pair = tuple[float, float]


@dataclass(frozen=True)
class Point:
    """A method in the plot.

    Attributes:
        method: Its name.
        role: ``reference``, ``baseline``, ``ranked`` or ``outside``, which choose the marker.
        x: Mean, low and high end of the retained quality.
        y: Mean, low and high end of the forgetting.
    """

    method: str
    role: str
    x: tuple[float, float, float]
    y: tuple[float, float, float]

    @property
    def mean(self) -> Pair:
        """Both means."""
        return self.x[0], self.y[0]


@dataclass(frozen=True)
class Spot:
    """A method in the drawing, in pixels.

    Attributes:
        method: Its name.
        role: As of its point.
        x: Its centre.
        y: Its centre.
        bars: Ends of both intervals: left, right, top, bottom; no bar of a value at the border.
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
        gate: Pixel of the gate, or None without a value of the reference.
        front: Corners of the Pareto front.
        spots: The methods that have both values.
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


def scatter(board: Board, frame: pd.DataFrame, ranked: Sequence[RankedRow]) -> Scatter:
    """The drawing of a board."""
    limit = board.gate.limits[0]
    points = points_of(board, frame, ranked)
    names = {row.method for row in ranked if row.rank is not None}
    inside = [point for point in points if point.method in names]
    signs = direction_sign(frame, limit), direction_sign(frame, board.rank)
    reference = series(frame, board.gate.reference, limit).mean()
    edge = None if np.isnan(reference) else float(reference + signs[0] * limit.within)
    bounds = [value for point in inside or points for value in point.x]
    bounds += [] if edge is None else [edge]
    x = Axis.covering(bounds, signs[0], LEFT, RIGHT, most(frame, limit))
    y = vertical(points, signs[1], most(frame, board.rank))
    units = unit_of(frame, limit), unit_of(frame, board.rank)
    return Scatter(
        x=x,
        y=y,
        xlabel=axis_label(board, frame, limit),
        ylabel=axis_label(board, frame, board.rank),
        gate=None if edge is None else x(edge),
        front=staircase([(x(a), y(b)) for a, b in (point.mean for point in inside)]),
        spots=[_spot(point, x, y, units) for point in points],
        labels=place_labels([_label(p, x, y) for p in points], (LEFT, TOP, RIGHT, BOTTOM)),
    )


def vertical(points: Sequence[Point], sign: int, largest: float) -> Axis:
    """The axis of y: logarithmic where lower is better and the means differ by magnitudes."""
    log = Axis.spreading((point.y[0] for point in points), BOTTOM, TOP) if sign > 0 else None
    values = (value for point in points for value in point.y)
    return Axis.covering(values, sign, BOTTOM, TOP, largest) if log is None else log


def axis_label(board: Board, frame: pd.DataFrame, quantity: Quantity) -> str:
    """Label and unit of a quantity."""
    unit = unit_of(frame, quantity)
    return clean(f"{label_of(board, quantity)} ({unit})" if unit else label_of(board, quantity))


def unit_of(frame: pd.DataFrame, quantity: Quantity) -> str:
    """Unit of a quantity; empty of a plain number, or where nothing was measured."""
    units = set(frame.loc[frame["key"] == str(quantity.key), "unit"]) - {"", "1"}
    return clean(" and ".join(sorted(units)))


def most(frame: pd.DataFrame, quantity: Quantity) -> float:
    """Largest value that the quantity can have: 100 of a share."""
    units = frame.loc[frame["key"] == str(quantity.key), "unit"]
    return 100.0 if units.eq("%").any() else math.inf


def points_of(board: Board, frame: pd.DataFrame, ranked: Sequence[RankedRow]) -> list[Point]:
    """The methods that have both values for all seeds, in the order of the page."""
    points = []
    for row in ranked:
        x = spread(frame, row.method, board.gate.limits[0].key)
        y = spread(frame, row.method, board.rank.key)
        if x is not None and y is not None:
            points.append(Point(row.method, role_of(board, row), x, y))
    return points


def spread(
    frame: pd.DataFrame, method: str, quantity: Quantity
) -> tuple[float, float, float] | None:
    """Mean, low and high end over seeds, or of the only seed's items; None without a value."""
    chosen = rows(frame, method, quantity)
    if chosen.empty or chosen["value"].isna().any():
        return None
    if len(chosen) > 1:
        interval = seeds_interval(chosen["value"].to_numpy())
        return interval.value, interval.low, interval.high
    value, low, high = (float(chosen.iloc[0][name]) for name in ("value", "low", "high"))
    return value, value if np.isnan(low) else low, value if np.isnan(high) else high


def staircase(spots: Sequence[Pair]) -> list[Pair]:
    """Boundary, in pixels, of what the spots dominate: right and up (smaller y) are better."""
    best: list[Pair] = []
    for a, b in sorted(set(spots), key=lambda spot: (-spot[0], spot[1])):
        if not best or b < best[-1][1]:
            best.append((a, b))
    if not best:
        return []
    corners = [(best[0][0], BOTTOM)]
    for spot, following in zip(best, [*best[1:], (LEFT, 0.0)], strict=True):
        corners += [spot, (following[0], spot[1])]
    return corners


def role_of(board: Board, row: RankedRow) -> str:
    """``reference``, ``baseline``, ``ranked`` or ``outside``."""
    if row.method == board.gate.reference:
        return "reference"
    if row.method == board.baseline.method:
        return "baseline"
    return "ranked" if row.rank is not None else "outside"


def _spot(point: Point, x: Axis, y: Axis, units: tuple[str, str]) -> Spot:
    """The point in pixels."""
    ends_x = point.x[1:] if x.holds(point.x[0]) else (point.x[0], point.x[0])
    ends_y = point.y[1:] if y.holds(point.y[0]) else (point.y[0], point.y[0])
    bars = (x(ends_x[0]), x(ends_x[1]), y(ends_y[0]), y(ends_y[1]))
    values = ((point.y[0], units[1]), (point.x[0], units[0]))
    words = ", ".join(f"{value:.4g} {unit}".rstrip() for value, unit in values)
    return Spot(point.method, point.role, x(point.x[0]), y(point.y[0]), bars, words)


def _label(point: Point, x: Axis, y: Axis) -> Label:
    """The method's name; with its value where it stands at the border."""
    values = ((x, point.x[0]), (y, point.y[0]))
    beyond = "".join(f" ({value:.3g})" for axis, value in values if not axis.holds(value))
    return Label(f"{short_name(point.method)}{beyond}", x(point.x[0]), y(point.y[0]))


def short_name(method: str) -> str:
    """The name of a method, cut where it is long."""
    return clean(method if len(method) <= NAME else f"{method[: NAME - 1]}…")
