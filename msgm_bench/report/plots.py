"""Plots of a run: loss curves, points and score fields."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from msgm_bench.api import Model, ModelContext
from msgm_bench.diffusion import EpsFn
from msgm_bench.errors import shorten
from msgm_bench.storage import atomic_write, single_line

FIELD_TIME = 0.08  # the time of MSGM's Figure 1
REACH_POINTS = 100_000  # points that determine the size of a plot
DPI, PIXELS = 120, 16_000  # resolution; the largest number of pixels a side
RETAIN_COLOUR, FORGET_COLOUR, SAMPLE_COLOUR = "#2a9d5c", "#d1495b", "#30638e"


def loss_curve(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Draw every logged quantity over the steps: losses together, diagnostics below."""
    names = sorted({name for row in rows for name in row} - {"step", "learning_rate", "loss"})
    losses = ["loss", *(name for name in names if name.startswith("loss_"))]
    others = [name for name in names if name not in losses]
    figure = new_figure(7, 5)
    axes = figure.subplots(2, 1, sharex=True)
    for ax, group in zip(axes, (losses, others), strict=True):
        for name in group:
            points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            ax.plot(*zip(*points, strict=True), label=literal(name.replace("_", " ")), lw=1)
        if group:
            ax.legend(
                fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(group), frameon=False
            )
        ax.grid(alpha=0.3)
    values = [row[name] for row in rows for name in others if row.get(name) is not None]
    if values and min(values) > 0 and max(values) > 10 * min(values):
        axes[1].set_yscale("log")
    axes[0].set_ylabel("loss")
    axes[1].set_xlabel("step")
    axes[1].xaxis.get_major_locator().set_params(integer=True)
    save(figure, path)


def scatter(
    path: Path, data: Mapping[str, Tensor], samples: Mapping[str, Tensor], title: str = ""
) -> None:
    """Draw held-out points of D_g and D_f beside each set of samples (MSGM, Figure 2)."""
    lines = math.ceil((len(samples) + 1) / 5)
    columns = math.ceil((len(samples) + 1) / lines)
    side = min(4.0, 14 / columns)
    figure = new_figure(side * columns, side * lines)
    figure.suptitle(literal(title, 120), fontsize=11)
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    reach = _reach(torch.cat([*data.values()])) + 1
    for points, colour, label in zip(
        data.values(), (RETAIN_COLOUR, FORGET_COLOUR), data, strict=True
    ):
        axes[0].scatter(points[:, 0], points[:, 1], s=2, c=colour, label=literal(label), alpha=0.5)
    axes[0].legend(markerscale=4, fontsize=8)
    _frame(axes[0], "data", reach)
    for ax, (label, x) in zip(axes[1:], samples.items(), strict=False):
        ax.scatter(x[:, 0], x[:, 1], s=2, c=SAMPLE_COLOUR, alpha=0.4)
        _frame(ax, label, reach)
    for ax in axes[len(samples) + 1 :]:
        ax.axis("off")
    save(figure, path)


def score_field(path: Path, context: ModelContext, base: Model | None) -> None:
    """Draw s = -eps_hat / sigma(t) at t = 0.08: of data, base model and model (MSGM, Figure 1)."""
    panels: list[tuple[str, EpsFn]] = []
    density = context.data.density
    if density is not None:
        panels.append(("exact, all of D", density.eps(context.model.process)))
    if base is not None:
        panels.append(("base model", base.eps_fn))
    panels.append(("this model", context.model.eps_fn))
    reach = _reach(context.data.test.x)
    axis = torch.linspace(-reach, reach, 25)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
    x = grid.to(context.device)
    t = torch.full((len(x),), FIELD_TIME, device=context.device)
    _, sigma = context.model.process.marginal(t)
    figure = new_figure(4 * len(panels), 4)
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for ax, (title, eps) in zip(axes, panels, strict=True):
        with torch.no_grad():
            score = (-eps(x, t) / sigma[:, None]).cpu()
        colour = score.norm(dim=1)
        ax.quiver(grid[:, 0], grid[:, 1], score[:, 0], score[:, 1], colour, cmap="viridis")
        points = context.forget.x[:300].cpu()
        ax.scatter(points[:, 0], points[:, 1], s=3, c=FORGET_COLOUR, alpha=0.35)
        _frame(ax, f"{title}, t = {FIELD_TIME:g}", reach)
    save(figure, path)


def _reach(points: Tensor) -> float:
    """0.999 quantile of |x| over the first finite points; 1 without any."""
    finite = points[torch.isfinite(points).all(dim=1)][:REACH_POINTS]
    return float(finite.abs().quantile(0.999)) if len(finite) else 1.0


def literal(text: object, limit: int = 48) -> str:
    """``text`` as matplotlib draws it letter by letter: one line, not too long, no formula.

    A space stands before an underscore, since legends leave out labels that begin with one.
    """
    line = single_line(text)
    line = f" {line}" if line.startswith("_") else line
    return shorten(line, limit).replace("$", r"\$")


def _frame(ax: Axes, title: str, reach: float) -> None:
    ax.set_title(literal(title), fontsize=10)
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-reach, reach)
    ax.set_aspect("equal")


def new_figure(width: float, height: float, *, bare: bool = False) -> Figure:
    """A figure of ``width`` x ``height`` inches; ``bare`` is without matplotlib's layout."""
    figure = Figure(figsize=(width, height), layout=None if bare else "constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path, source: str = "") -> None:
    """Write a PNG atomically, without the time or the version of the software.

    Letters that the font lacks are drawn as boxes. ``source`` is the PNG's entry ``Source``.
    """
    dpi = min(DPI, PIXELS / max(figure.get_size_inches()))
    with atomic_write(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(temporary, dpi=dpi, metadata={"Software": None, "Source": source or None})
