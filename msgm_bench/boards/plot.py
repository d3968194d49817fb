"""Forgetting against retained quality, with the Pareto front, as an SVG of stable bytes.

x is the first quantity of the gate, y the one that ranks; both axes are turned so that better is
right and up. A point is the mean over seeds with its 95 % interval. The front is the boundary of
what some ranked method reaches in both quantities. x covers the ranked methods and the gate; a
method beyond it stands at the border. The drawing rests on no plotting library, whose versions
would change its bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
import numpy as np
import pandas as pd

from msgm_bench.boards.axis import Axis, Label, place_labels
from msgm_bench.boards.board import Board, Quantity
from msgm_bench.boards.ranking import RankedRow, direction_sign, rows, series
from msgm_bench.boards.render import label_of
from msgm_bench.errors import clean
from msgm_bench.evaluation.statistics import seeds_interval

LEFT, RIGHT, TOP, BOTTOM = 78.0, 700.0, 40.0, 372.0
WIDTH, HEIGHT = 720, 440
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


def plot(board: Board, frame: pd.DataFrame, ranked: Sequence[RankedRow]) -> str:
    """The SVG of a board."""
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
    spots = [(x(point.x[0]), y(point.y[0])) for point in points]
    labels = [_label(point, spot, x, y) for point, spot in zip(points, spots, strict=True)]
    return _template().render(
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=RIGHT,
        top=TOP,
        bottom=BOTTOM,
        title=clean(board.title),
        x=x,
        y=y,
        xlabel=axis_label(board, frame, limit),
        ylabel=axis_label(board, frame, board.rank),
        gate=None if edge is None else x(edge),
        front=staircase([(x(a), y(b)) for a, b in (point.mean for point in inside)]),
        marks=[_mark(point, x, y) for point in points],
        labels=place_labels(labels, (LEFT, TOP, RIGHT, BOTTOM)),
    )


def vertical(points: Sequence[Point], sign: int, largest: float) -> Axis:
    """The axis of y: logarithmic where lower is better and the means differ by magnitudes."""
    log = Axis.spreading((point.y[0] for point in points), BOTTOM, TOP) if sign > 0 else None
    values = (value for point in points for value in point.y)
    return Axis.covering(values, sign, BOTTOM, TOP, largest) if log is None else log


def axis_label(board: Board, frame: pd.DataFrame, quantity: Quantity) -> str:
    """Label and unit of a quantity."""
    units = set(frame.loc[frame["key"] == str(quantity.key), "unit"]) - {"", "1"}
    return clean(" ".join((label_of(board, quantity), *(f"({unit})" for unit in sorted(units)))))


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
            points.append(Point(row.method, _role(board, row), x, y))
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


def _role(board: Board, row: RankedRow) -> str:
    if row.method == board.gate.reference:
        return "reference"
    if row.method == board.baseline.method:
        return "baseline"
    return "ranked" if row.rank is not None else "outside"


def _mark(point: Point, x: Axis, y: Axis) -> dict[str, object]:
    """Centre and ends of the bars of a point, in pixels; no bar of a value at the border."""
    mark: dict[str, object] = {"role": point.role, "cx": x(point.x[0]), "cy": y(point.y[0])}
    ends_x = point.x[1:] if x.holds(point.x[0]) else (point.x[0], point.x[0])
    ends_y = point.y[1:] if y.holds(point.y[0]) else (point.y[0], point.y[0])
    mark |= {"x1": x(ends_x[0]), "x2": x(ends_x[1])}
    return mark | {"y1": y(ends_y[0]), "y2": y(ends_y[1])}


def _label(point: Point, spot: Pair, x: Axis, y: Axis) -> Label:
    """The method's name; with its value where it stands at the border."""
    values = ((x, point.x[0]), (y, point.y[0]))
    beyond = "".join(f" ({value:.3g})" for axis, value in values if not axis.holds(value))
    name = point.method if len(point.method) <= 24 else f"{point.method[:23]}…"
    return Label(f"{clean(name)}{beyond}", *spot)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("msgm_bench.boards"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["px"] = lambda value: f"{value:.1f}"
    return environment.get_template("plot.svg.j2")
