"""A sweep as a drawing: a panel a column, a line a sampler, over network evaluations."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgm_bench.api.columns import MetricColumn
from msgm_bench.drawing.axis import LETTER, LINE, Axis, Tick, covered, spaced
from msgm_bench.drawing.svg import drawing
from msgm_bench.errors import clean, shorten
from msgm_bench.sweep.record import Sweep

WIDTH, HEIGHT = 720, 196.0  # pixels: of the drawing, and of the inside of a panel
ABREAST = 3  # panels beside each other
LEFT, RIGHT, FOOT = 46.0, 8.0, 22.0  # margins of a panel
TOP, GAP, LABEL, LEGEND = 24.0, 14.0, 14.0, 18.0  # heights: heading, over and under panels, keys
SAMPLE = 22.0  # length of a key
SPREAD = 5.0  # largest over smallest value from which on an axis is logarithmic
NAME = 20  # letters of a sampler
ARROWS = {"up": "↑", "down": "↓", "none": ""}
COLOURS = 10
SIGNS = (
    "m-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0 -6.4 0",
    "m-3 -3h6v6h-6z",
    "m0 -4l3.7 6.6h-7.4z",
    "m0 -4.2l4.2 4.2l-4.2 4.2l-4.2 -4.2z",
    "m0 4l3.7 -6.6h-7.4z",
    "m-4 0l6.6 -3.7v7.4z",
    "m4 0l-6.6 -3.7v7.4z",
    "m-1.3 -4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z",
)
"""Paths of markers round a point."""

Value = tuple[float, float, float]
Pair = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A sampler in a panel, in pixels.

    Attributes:
        colour: Number of its colour.
        sign: Its marker.
        points: Its values, by evaluations.
        band: Corners of the 95 % intervals: lower ends, then upper ends backwards.
    """

    colour: int
    sign: str
    points: Sequence[Pair]
    band: Sequence[Pair]


@dataclass(frozen=True)
class Panel:
    """A column.

    Attributes:
        title: Label, unit and arrow, a text a line.
        left: Left border.
        right: Right border.
        top: Upper border.
        bottom: Lower border.
        budgets: Ticks of the evaluations.
        ticks: Ticks of the values.
        lines: The samplers that have values.
    """

    title: Sequence[str]
    left: float
    right: float
    top: float
    bottom: float
    budgets: Sequence[Tick]
    ticks: Sequence[Tick]
    lines: Sequence[Line]


@dataclass(frozen=True)
class LegendEntry:
    """A sampler in the legend: left end, line and text."""

    colour: int
    sign: str
    x: float
    y: float
    text: str


def sweep_figure(sweep: Sweep, is_file: bool = True) -> str:
    """The SVG of a sweep; ``is_file`` as of ``drawing``."""
    abreast = _abreast(sweep)
    rows = -(-len(sweep.columns) // abreast)
    width = WIDTH / abreast
    names = [panel_title(sweep, column, width - LEFT - RIGHT) for column in sweep.columns]
    head = GAP + LINE * max(len(lines) for lines in names)
    height = head + HEIGHT + FOOT
    panels = [
        panel(sweep, column, lines, (i % abreast) * width, TOP + (i // abreast) * height + head)
        for i, (column, lines) in enumerate(zip(sweep.columns, names, strict=True))
    ]
    under = TOP + rows * height + LABEL
    keys, bottom = legend(sweep.samplers, under + LEGEND)
    return drawing(
        "msgm_bench.sweep",
        "sweep.svg.j2",
        width=WIDTH,
        height=round(bottom + 8),
        title=clean(f"{title(sweep)}: quality against network evaluations"),
        is_file=is_file,
        heading=clean(shorten(title(sweep), 110)),
        panels=panels,
        under=under,
        keys=keys,
        length=SAMPLE,
    )


def title(sweep: Sweep) -> str:
    """The model in words."""
    spec = sweep.spec
    return (
        f"{spec.dataset}, forget {', '.join(spec.forget)}, {spec.backbone}: "
        f"{spec.method}, preset {spec.preset}, seed {spec.seed}"
    )


def panel_title(sweep: Sweep, column: MetricColumn, width: float) -> list[str]:
    """Label, unit and arrow of a column, a text a line."""
    units = [f"({unit})" for unit in units_of(sweep, column)]
    label = clean(" ".join([column.label, *units, ARROWS[column.direction]]))
    return textwrap.wrap(label, int(width / LETTER))[:2]


def units_of(sweep: Sweep, column: MetricColumn) -> list[str]:
    """Units of a column's values, but for plain numbers."""
    rows = (point.row(column) for point in sweep.points)
    return list(dict.fromkeys(row.unit for row in rows if row is not None and row.unit != "1"))


def panel(sweep: Sweep, column: MetricColumn, lines: Sequence[str], x: float, top: float) -> Panel:
    """A column under its title, in the cell from x on."""
    left, right = x + LEFT, x + WIDTH / _abreast(sweep) - RIGHT
    bottom = top + HEIGHT
    known = [values_of(sweep, name, column) for name in sweep.samplers]
    evaluations = [point.evaluations for point in sweep.points]
    across = Axis(min(evaluations) / 1.12, max(evaluations) * 1.12, left, right, -1, log=True)
    listed = [value for values in known for _, value in values]
    upright = value_axis(listed, bottom, top, "%" in units_of(sweep, column))
    budgets = sorted({point.nfe for point in sweep.points})
    return Panel(
        lines,
        left,
        right,
        top,
        bottom,
        spaced((across(nfe), str(nfe)) for nfe in budgets if across.holds(nfe)),
        spaced(upright.ticks, is_upright=True),
        [_line(i, values, across, upright) for i, values in enumerate(known) if values],
    )


def values_of(sweep: Sweep, sampler: str, column: MetricColumn) -> list[tuple[float, Value]]:
    """Evaluations, and value with the ends of its interval, of a sampler, by evaluations."""
    entries = []
    for point in sweep.points:
        row = point.row(column) if point.sampler == sampler else None
        if row is not None and row.value is not None:
            low = row.value if row.low is None else row.low
            high = row.value if row.high is None else row.high
            entries.append((point.evaluations, (row.value, low, high)))
    return sorted(entries)


def value_axis(values: Sequence[Value], bottom: float, top: float, is_share: bool) -> Axis:
    """Larger is higher; logarithmic where positive values differ by more than ``SPREAD``."""
    means = [value for value, _, _ in values]
    if means and min(means) > 0 and max(means) > SPREAD * min(means):
        margin = (max(means) / min(means)) ** 0.07
        return Axis(min(means) / margin, max(means) * margin, bottom, top, -1, log=True)
    return Axis.covering(covered(values), -1, bottom, top, 100.0 if is_share else math.inf)


def legend(samplers: Iterable[str], top: float) -> tuple[list[LegendEntry], float]:
    """Keys of the samplers, as many on a line as there is room for, and the last line's height."""
    keys: list[LegendEntry] = []
    x, y = LEFT, top
    for i, sampler in enumerate(samplers):
        text = clean(shorten(sampler, NAME))
        width = SAMPLE + 6 + LETTER * len(text) + 14
        if x + width > WIDTH and x > LEFT:
            x, y = LEFT, y + LEGEND
        keys.append(LegendEntry(i % COLOURS, SIGNS[i % len(SIGNS)], x, y, text))
        x += width
    return keys, y


def _abreast(sweep: Sweep) -> int:
    """Panels beside each other; a single one is half as wide as the drawing."""
    return max(2, min(ABREAST, len(sweep.columns)))


def _line(i: int, values: Sequence[tuple[float, Value]], across: Axis, upright: Axis) -> Line:
    """The sampler of number i."""
    points = [(across(nfe), upright(value)) for nfe, (value, _, _) in values]
    lower = [(across(nfe), upright(low)) for nfe, (_, low, _) in values]
    upper = [(across(nfe), upright(high)) for nfe, (_, _, high) in values]
    return Line(i % COLOURS, SIGNS[i % len(SIGNS)], points, [*lower, *reversed(upper)])
