"""Images in rows: grids and strips, without stretched contrast."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn import functional as F

from msgm_bench.report.plots import literal, new_figure, save

BROKEN = (1.0, 0.0, 0.0)
TITLE = 120  # letters of a heading
CELL, HEADING, LETTER = 0.5, 0.3, 0.068  # inches: height of a row and a heading, width of a letter


@dataclass(frozen=True)
class Section:
    """Rows of images ``[N, C, H, W]`` behind their labels, under a heading."""

    heading: str
    rows: Sequence[tuple[str, Tensor]]

    @property
    def columns(self) -> int:
        """Images of the longest row."""
        return max((len(x) for _, x in self.rows), default=0)

    def height(self, tall: float) -> float:
        """Inches, with a margin below."""
        return HEADING * bool(self.heading) + tall * len(self.rows) + 0.1

    def width(self, left: float, wide: float) -> float:
        """Inches; a heading is bold and a little larger than labels."""
        return max(
            left + self.columns * wide, 0.2 + 1.3 * LETTER * len(literal(self.heading, TITLE))
        )


def sections(rows: Mapping[str, Tensor]) -> list[Section]:
    """Sections of rows whose captions are ``heading: label``, one for each heading."""
    parts: dict[str, list[tuple[str, Tensor]]] = {}
    for caption, x in rows.items():
        heading, _, label = caption.rpartition(": ")
        parts.setdefault(heading, []).append((label, x))
    return [Section(heading, part) for heading, part in parts.items()]


def image_grid(path: Path, x: Tensor) -> None:
    """Draw [0, 1] images ``[N, C, H, W]`` in a square."""
    columns = math.ceil(math.sqrt(len(x)))
    lines = [x[i : i + columns] for i in range(0, len(x), columns)]
    edge = _gap(x)
    sheet = torch.cat([strip(line, columns) for line in lines])
    sheet = F.pad(sheet, (0, 0, edge, 0, edge, 0), value=1.0)
    figure = new_figure(6, 6 * sheet.shape[0] / sheet.shape[1], bare=True)
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.imshow(sheet.numpy())
    ax.axis("off")
    save(figure, path)


def strips(path: Path, bands: Sequence[Sequence[Section]]) -> None:
    """Draw sections of rows of [0, 1] images; the sections of a band stand side by side."""
    rows = [row for band in bands for section in band for row in section.rows]
    _, _, height, width = rows[0][1].shape if rows else (0, 0, 1, 1)
    tall = max(CELL, height / 110)
    wide = tall * width / height
    left = 0.2 + LETTER * max((len(literal(label)) for label, _ in rows), default=0)
    heights = [max(section.height(tall) for section in band) for band in bands]
    right = max(sum(section.width(left, wide) for section in band) for band in bands)
    figure = new_figure(right, sum(heights), bare=True)
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.axis("off")
    for band, above in zip(bands, itertools.accumulate(heights, initial=0.0), strict=False):
        start = 0.0
        for section in band:
            _draw(ax, section, (start, above), left, (tall, wide))
            start += section.width(left, wide)
    ax.set(xlim=(0, right), ylim=(sum(heights), 0), aspect="auto")
    save(figure, path)


def _draw(
    ax: Axes, section: Section, corner: tuple[float, float], left: float, cell: tuple[float, float]
) -> None:
    """Draw a section, in inches.

    Args:
        ax: Axes in inches, with y downwards.
        section: The rows.
        corner: Upper left corner (x, y).
        left: Width of the labels.
        cell: Height and width of an image.
    """
    (start, top), (tall, wide) = corner, cell
    if section.heading:
        place = (start + 0.1, top + HEADING / 2)
        ax.text(*place, literal(section.heading, TITLE), size=9, weight="bold", va="center")
        top += HEADING
    start, end = start + left, start + left + section.columns * wide
    for label, x in section.rows:
        ax.text(start - 0.1, top + tall / 2, literal(label), size=8, ha="right", va="center")
        line = strip(x, section.columns).numpy()
        ax.imshow(line, extent=(start, end, top + tall, top))
        top += tall


def strip(x: Tensor, columns: int) -> Tensor:
    """[0, 1] images ``[N, C, H, W]`` in a line, ``[H', W', 3]``, padded with white to ``columns``.

    Pixels that are not finite are red.
    """
    gap = _gap(x)
    colours = x.cpu().float().expand(-1, 3, -1, -1)
    red = torch.tensor(BROKEN).reshape(3, 1, 1)
    colours = torch.where(torch.isfinite(colours), colours.clamp(0, 1), red)
    framed = F.pad(colours, (0, gap, 0, gap), value=1.0)
    line = torch.cat([*framed], dim=2)
    missing = (columns - len(x)) * framed.shape[3]
    return F.pad(line, (0, missing, 0, 0), value=1.0).permute(1, 2, 0)


def _gap(x: Tensor) -> int:
    """White pixels between images."""
    return max(1, x.shape[3] // 16)
