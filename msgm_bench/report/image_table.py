"""Images in a table: a row a model, a column a prompt, the same noise in each column."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from torch import Tensor

from msgm_bench.report.image_grids import HEADING, LETTER, TITLE, strip
from msgm_bench.report.plots import literal, new_figure, save

IMAGE, GAP, LINE, PIXELS = 0.42, 0.14, 0.13, 110  # inches: image, gap, line; pixels an inch
SMALLER = 0.85  # width of a letter of a column's label against one of a row's


@dataclass(frozen=True)
class Table:
    """Images ``[N, C, H, W]`` in [0, 1] by row and column; a cell may be empty.

    Attributes:
        title: What the table shows.
        columns: Captions ``heading: label``; neighbours with one heading stand under it.
        rows: Images of each row by caption, in the order of the rows.
    """

    title: str
    columns: Sequence[str]
    rows: Mapping[str, Mapping[str, Tensor]]

    @property
    def images(self) -> list[Tensor]:
        """The images of all cells."""
        return [self.rows[row][c] for row in self.rows for c in self.columns if c in self.rows[row]]


@dataclass(frozen=True)
class _Layout:
    """Inches of a table.

    Attributes:
        left: Width of the rows' labels.
        wide: Width of a cell, which holds ``count`` images.
        tall: Height of a row.
        lines: Lines of the longest label of a column.
        count: Images of the fullest cell.
    """

    left: float
    wide: float
    tall: float
    lines: int
    count: int

    @classmethod
    def of(cls, table: Table) -> _Layout:
        """The layout of a table."""
        images = table.images
        count = max((len(x) for x in images), default=1)
        height, width = max((tuple(x.shape[2:]) for x in images), default=(1, 1))
        tall = max(IMAGE, height / PIXELS)
        wide = count * tall * width / height
        left = 0.2 + LETTER * max((len(literal(row)) for row in table.rows), default=0)
        lines = max((len(_wrapped(caption, wide)) for caption in table.columns), default=0)
        return cls(left, wide, tall, lines, count)

    def width(self, columns: int) -> float:
        """Width of a table of that many columns."""
        return self.left + columns * (self.wide + GAP) + 0.1

    def height(self, rows: int) -> float:
        """Height of a table of that many rows."""
        return 2 * HEADING + self.lines * LINE + rows * (self.tall + 0.04) + 0.2


def draw_tables(path: Path, tables: Sequence[Table], source: str = "") -> None:
    """Draw tables one below the other, as a PNG.

    Args:
        path: The PNG.
        tables: The tables.
        source: What the picture was made from, for the entry ``Source`` of the PNG.
    """
    layouts = [_Layout.of(table) for table in tables]
    pairs = list(zip(tables, layouts, strict=True))
    titles = [0.2 + 1.3 * LETTER * len(literal(table.title, TITLE)) for table in tables]
    width = max(*titles, *(part.width(len(table.columns)) for table, part in pairs))
    heights = [part.height(len(table.rows)) for table, part in pairs]
    figure = new_figure(width, sum(heights), bare=True)
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.axis("off")
    for (table, part), top in zip(pairs, itertools.accumulate(heights, initial=0.0), strict=False):
        _draw(ax, table, part, top)
    ax.set(xlim=(0, width), ylim=(sum(heights), 0), aspect="auto")
    save(figure, path, source)


def _draw(ax: Axes, table: Table, layout: _Layout, top: float) -> None:
    """Draw a table from ``top`` inches on, with y downwards."""
    title = literal(table.title, TITLE)
    ax.text(0.1, top + HEADING / 2, title, size=9, weight="bold", va="center")
    lefts = [layout.left + i * (layout.wide + GAP) for i in range(len(table.columns))]
    _draw_headings(ax, table, layout, lefts, top + HEADING)
    bottom = top + 2 * HEADING + layout.lines * LINE
    for left, caption in zip(lefts, table.columns, strict=True):
        text = "\n".join(_wrapped(caption, layout.wide))
        ax.text(left, bottom - 0.04, text, size=7, va="bottom", linespacing=1.1)
    for i, (label, cells) in enumerate(table.rows.items()):
        y = bottom + i * (layout.tall + 0.04)
        place = (layout.left - 0.1, y + layout.tall / 2)
        ax.text(*place, literal(label), size=8, ha="right", va="center")
        for left, caption in zip(lefts, table.columns, strict=True):
            if caption in cells:
                image = strip(cells[caption], layout.count).numpy()
                ax.imshow(image, extent=(left, left + layout.wide, y + layout.tall, y))


def _draw_headings(
    ax: Axes, table: Table, layout: _Layout, lefts: Sequence[float], top: float
) -> None:
    """Draw the heading of each group of columns over a line as wide as the group."""
    headings = [caption.rpartition(": ")[0] for caption in table.columns]
    for heading, group in itertools.groupby(
        zip(headings, lefts, strict=True), lambda pair: pair[0]
    ):
        places = [left for _, left in group]
        start, end = places[0], places[-1] + layout.wide
        if heading:
            letters = int((end - start) / (SMALLER * LETTER))
            ax.text(start, top + 0.12, literal(heading, max(letters, 4)), size=8, va="center")
            ax.plot((start, end), (top + 0.22,) * 2, color="0.6", lw=0.8)


def _wrapped(caption: str, wide: float) -> list[str]:
    """The label of a column in lines that fit ``wide`` inches."""
    label = literal(caption.rpartition(": ")[2])
    return textwrap.wrap(label, max(6, int(wide / (SMALLER * LETTER)))) or [""]
