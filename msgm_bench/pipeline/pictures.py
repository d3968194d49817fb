"""Pictures of a run, drawn without a screen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from msgm_bench.api import Model, Subject
from msgm_bench.diffusion import EpsFn
from msgm_bench.storage import atomic

FIELD_TIME = 0.08  # the time of MSGM's Figure 1
KEPT, FORGOTTEN, DRAWN = "#2a9d5c", "#d1495b", "#30638e"


def loss_curve(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Every logged quantity over the steps: losses together, diagnostics below."""
    losses = [name for name in rows[0] if name.startswith("loss")]
    names = sorted({name for row in rows for name in row} - {"step", "learning_rate", "loss"})
    losses = ["loss", *(name for name in names if name.startswith("loss_"))]
    others = [name for name in names if name not in losses]
    figure = _figure(7, 5)
    axes = figure.subplots(2, 1, sharex=True)
    for ax, group in zip(axes, (losses, others), strict=True):
        for name in group:
            points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            ax.plot(*zip(*points, strict=True), label=name.replace("_", " "), lw=1)
        ax.legend(fontsize=8, loc="upper right")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("loss")
    axes[1].set_yscale("log")
    axes[1].set_xlabel("step")
    _save(figure, path)


def image_grid(path: Path, x: Tensor) -> None:
    """[0, 1] images ``[N, C, H, W]`` side by side, no contrast stretched."""
    n, channels, height, width = x.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = torch.ones(channels, rows * (height + 1) + 1, columns * (width + 1) + 1)
    for i, image in enumerate(x.cpu().float()):
        top, left = (i // columns) * (height + 1) + 1, (i % columns) * (width + 1) + 1
        sheet[:, top : top + height, left : left + width] = image
    figure = _figure(6, 6 * rows / columns, bare=True)
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.imshow(sheet.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
    ax.axis("off")
    _save(figure, path)


def strips(path: Path, rows: Mapping[str, Tensor]) -> None:
    """Rows of [0, 1] images ``[N, C, H, W]`` under their captions, no contrast stretched."""
    columns = max(len(images) for images in rows.values())
    figure = _figure(max(3.0, 0.6 * columns), 0.8 * len(rows))
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for ax, (caption, images) in zip(axes, rows.items(), strict=True):
        line = torch.cat([F.pad(x, (0, 1, 0, 0), value=1.0) for x in images.cpu().float()], dim=2)
        wide = F.pad(line, (0, (columns - len(images)) * (images.shape[3] + 1)), value=1.0)
        ax.imshow(wide.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
        ax.set_title(caption, fontsize=7, loc="left", pad=2)
        ax.axis("off")
    _save(figure, path)


def scatter(path: Path, x: Tensor, subject: Subject) -> None:
    """Held-out points, D_g and D_f apart, beside the samples (as in MSGM's Figure 2)."""
    figure = _figure(8, 4)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    shown = subject.data.test[:4000]
    retain, forget = subject.data.split(shown, subject.targets)
    for part, colour, label in ((retain, KEPT, "keep"), (forget, FORGOTTEN, "forget")):
        points = part.x
        left.scatter(points[:, 0], points[:, 1], s=2, c=colour, label=label, alpha=0.5)
    left.legend(markerscale=4)
    drawn = x[:4000].cpu()
    right.scatter(drawn[:, 0], drawn[:, 1], s=2, c=DRAWN, alpha=0.4)
    for ax, title in ((left, "data"), (right, "samples")):
        _frame(ax, title, float(subject.data.test.x.abs().quantile(0.999)) + 1)
    _save(figure, path)


def score_field(path: Path, subject: Subject, before: Model | None) -> None:
    """Score fields at t = 0.08: of the data, of the base model, of the model (Figure 1)."""
    panels: list[tuple[str, EpsFn]] = []
    density = subject.data.density
    if density is not None:
        panels.append(("exact, all of D", density.eps(subject.model.process)))
    if before is not None:
        panels.append(("base model", before.forward_eps))
    panels.append(("this model", subject.model.forward_eps))
    reach = float(subject.data.test.x.abs().quantile(0.999))
    axis = torch.linspace(-reach, reach, 25)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
    x = grid.to(subject.device)
    t = torch.full((len(x),), FIELD_TIME, device=subject.device)
    _, sigma = subject.model.process.coefficients(t)
    figure = _figure(4 * len(panels), 4)
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for ax, (title, eps) in zip(axes, panels, strict=True):
        with torch.no_grad():
            score = (-eps(x, t) / sigma[:, None]).cpu()
        colour = score.norm(dim=1)
        ax.quiver(grid[:, 0], grid[:, 1], score[:, 0], score[:, 1], colour, cmap="viridis")
        points = subject.forget.x[:300].cpu()
        ax.scatter(points[:, 0], points[:, 1], s=3, c=FORGOTTEN, alpha=0.35)
        _frame(ax, f"{title}, t = {FIELD_TIME:g}", reach)
    _save(figure, path)


def _frame(ax: Axes, title: str, reach: float) -> None:
    ax.set_title(title, fontsize=10)
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-reach, reach)
    ax.set_aspect("equal")


def _figure(width: float, height: float, *, bare: bool = False) -> Figure:
    figure = Figure(figsize=(width, height), layout=None if bare else "constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120, metadata={"Software": None})
