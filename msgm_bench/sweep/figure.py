"""A sweep as a picture: a panel a column, a line a sampler, over network evaluations."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter, NullFormatter, StrMethodFormatter

from msgm_bench.api.columns import MetricColumn
from msgm_bench.api.result import digest
from msgm_bench.report.plots import literal, new_figure, save
from msgm_bench.sweep.record import Sweep

SPREAD = 5.0  # largest over smallest value from which on an axis is logarithmic
ARROWS = {"up": "↑", "down": "↓", "none": ""}
MARKERS = "os^Dv<>Pp*"


def sweep_source(sweep: Sweep) -> str:
    """SHA-256 of what the picture shows."""
    return digest(sweep.model_dump(mode="json", by_alias=True))


def draw_sweep(path: Path, sweep: Sweep) -> None:
    """Draw the picture as a PNG, whose entry ``Source`` is the sweep's hash.

    Raises:
        StorageError: It cannot be written.
    """
    figure = new_figure(max(4.2 * len(sweep.columns), 6), 4.2)
    figure.suptitle(literal(title(sweep), 120), fontsize=11)
    panels = figure.subplots(1, len(sweep.columns), squeeze=False)[0]
    for ax, column in zip(panels, sweep.columns, strict=True):
        _draw_panel(ax, sweep, column)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(labels), 8), fontsize=8
    )
    save(figure, path, sweep_source(sweep))


def title(sweep: Sweep) -> str:
    """The model in words."""
    spec = sweep.spec
    return (
        f"{spec.dataset}, forget {', '.join(spec.forget)}, {spec.backbone}: "
        f"{spec.method}, preset {spec.preset}, seed {spec.seed}"
    )


def _draw_panel(ax: Axes, sweep: Sweep, column: MetricColumn) -> None:
    """A column's values with their 95 % intervals."""
    rows = [row for point in sweep.points if (row := point.row(column)) is not None]
    values = [row.value for row in rows if row.value is not None]
    for i, sampler in enumerate(sweep.samplers):
        x, y, low, high = _line(sweep, sampler, column)
        colour, marker = f"C{i % 10}", MARKERS[i % len(MARKERS)]
        ax.plot(x, y, color=colour, marker=marker, ms=4, lw=1.2, label=literal(sampler))
        ax.fill_between(x, low, high, color=colour, alpha=0.08, lw=0)
    if values and min(values) > 0 and max(values) > SPREAD * min(values):
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.4)))
    units = [f"({unit})" for unit in dict.fromkeys(row.unit for row in rows) if unit != "1"]
    ax.set_title(literal(" ".join([column.label, *units, ARROWS[column.direction]])), fontsize=10)
    ax.set_xscale("log", base=2)
    ax.set_xticks(sorted({point.nfe for point in sweep.points}))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(which="both", labelsize=8)
    ax.set_xlabel("network evaluations a sample", fontsize=9)
    ax.grid(alpha=0.3)


def _line(sweep: Sweep, sampler: str, column: MetricColumn) -> list[list[float]]:
    """Evaluations, values and both ends of their intervals, of one sampler."""
    line = []
    for point in sweep.points:
        row = point.row(column) if point.sampler == sampler else None
        if row is not None and row.value is not None:
            low = row.value if row.low is None else row.low
            high = row.value if row.high is None else row.high
            line.append((point.evaluations, row.value, low, high))
    return [[entry[i] for entry in sorted(line)] for i in range(4)]
