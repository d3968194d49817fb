"""The second plot of a board: several quantities side by side, methods as rows.

A panel has an axis of its own, turned so that better is right, the mean over seeds of each method
with its 95 % interval, and a dashed line at the mean of the gate's reference. An axis covers the
means and the intervals that are not much longer than the range of the means; one that is ends at
the border.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from msgm_bench.boards.board import Board, Column
from msgm_bench.boards.ranking import RankedRow, direction_sign
from msgm_bench.boards.render import column_label
from msgm_bench.boards.scatter import WIDTH, most, role_of, short_name, spread, unit_of
from msgm_bench.drawing.axis import LETTER, Axis, Tick, covered, spaced
from msgm_bench.drawing.svg import drawing
from msgm_bench.errors import clean

NAMES, TOP, ROW, GAP, MARGIN = 150.0, 62.0, 20.0, 22.0, 14.0  # pixels
TITLE_LINES = 3


@dataclass(frozen=True)
class Dot:
    """A method in a panel, in pixels.

    Attributes:
        role: ``reference``, ``baseline``, ``ranked`` or ``outside``.
        x: Its mean.
        y: Its row.
        left: Left end of the interval.
        right: Right end of it.
    """

    role: str
    x: float
    y: float
    left: float
    right: float


@dataclass(frozen=True)
class Panel:
    """A quantity.

    Attributes:
        title: Label and unit, a text a line.
        left: Left border.
        right: Right border.
        ticks: Pixels and texts of round values, none of which lies on another.
        reference: Pixel of the reference's mean; None without a value.
        dots: The methods that have a value for all seeds.
    """

    title: list[str]
    left: float
    right: float
    ticks: list[Tick]
    reference: float | None
    dots: list[Dot]


def panels(
    board: Board, frame: pd.DataFrame, ranked: Sequence[RankedRow], is_file: bool = True
) -> str:
    """The SVG of a board with ``panels``; ``is_file`` as of ``drawing``."""
    bottom = TOP + ROW * len(ranked)
    width = (WIDTH - NAMES - MARGIN - GAP * (len(board.panels) - 1)) / len(board.panels)
    lefts = [NAMES + i * (width + GAP) for i in range(len(board.panels))]
    drawn = [
        panel(board, frame, ranked, column, (left, left + width))
        for column, left in zip(board.panels, lefts, strict=True)
    ]
    titles = ", ".join(" ".join(panel.title) for panel in drawn)
    return drawing(
        "msgm_bench.boards",
        "panels.svg.j2",
        width=WIDTH,
        height=round(bottom + 34),
        title=clean(f"{board.title}: {titles}"),
        is_file=is_file,
        top=TOP,
        bottom=bottom,
        names=[(_row(i), short_name(row.method)) for i, row in enumerate(ranked)],
        panels=drawn,
    )


def panel(
    board: Board,
    frame: pd.DataFrame,
    ranked: Sequence[RankedRow],
    column: Column,
    borders: tuple[float, float],
) -> Panel:
    """A quantity between two pixels."""
    left, right = borders
    known = [(i, row, spread(frame, row.method, column.key)) for i, row in enumerate(ranked)]
    spreads = [values for _, _, values in known if values is not None]
    axis = Axis.covering(
        covered(spreads), direction_sign(frame, column.key), left, right, most(frame, column)
    )
    dots = [
        Dot(role_of(board, row), axis(mean), _row(i), *sorted((axis(low), axis(high))))
        for i, row, values in known
        if values is not None
        for mean, low, high in [values]
    ]
    reference = next((dot.x for dot in dots if dot.role == "reference"), None)
    unit = unit_of(frame, column)
    label = clean(f"{column_label(column)} ({unit})" if unit else column_label(column))
    lines = textwrap.wrap(label, max(8, int((right - left) / LETTER)))
    return Panel(lines[:TITLE_LINES], left, right, spaced(axis.ticks), reference, dots)


def _row(i: int) -> float:
    """Centre of row i."""
    return TOP + ROW * (i + 0.5)
