r"""The picture at the top of the README: score fields of four models, and where they sample.

    msgm-bench run --dataset gaussians --forget middle --backbone vesde \
        --method standard --method unseen --method ort --method obt \
        --seed 0 --samples 4000 --threads 1 --out runs/figure
    python docs/figures/forgetting.py runs/figure docs/figures/forgetting.png

Two minutes of one CPU core. Each panel shows s(x, t) = -eps_hat(x, t) / sigma(t) at t = 0.08, the
time of Figure 1 of the MSGM paper (arXiv:2412.07229), the model's own samples coloured by the exact
posterior of the mixture, and UR, the share of samples in the forgotten component.
"""

from __future__ import annotations

import argparse
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from PIL import Image

from msgm_bench.api import Model
from msgm_bench.experiment.model_io import load_model
from msgm_bench.report import saved_images
from msgm_bench.storage import atomic_write, read_json

TITLES = {
    "standard": ("standard", "trained on everything"),
    "unseen": ("unseen", "retrained without the middle"),
    "ort": ("MSGM-Orthogonal", "unlearned"),
    "obt": ("MSGM-Obtuse", "unlearned"),
}
MEANS = np.array([[-2.0, -2.0], [0.0, 0.0], [2.0, 2.0]])  # of the mixture, all covariances I
WEIGHTS = np.array([0.4, 0.2, 0.4])
FORGOTTEN = 1
TIME, REACH, POINTS = 0.08, 4.6, 1500
INK, GREY, RETAIN, FORGET = "#1f2933", "#7b8794", "#2f6690", "#e4572e"
PAPER = LinearSegmentedColormap.from_list("paper", ["#ffffff", "#e3edf4", "#b9d0e0"])


def main() -> None:
    """Draw the runs of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path, help="folder of the four runs")
    parser.add_argument("target", type=Path, help="the PNG")
    options = parser.parse_args()
    runs = {path.parent: read_json(path) for path in sorted(options.runs.glob("*/result.json"))}
    folders = {result["spec"]["method"]: folder for folder, result in runs.items()}
    figure = Figure(figsize=(10, 3.42), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(TITLES))
    figure.subplots_adjust(left=0.006, right=0.994, bottom=0.17, top=0.86, wspace=0.03)
    for ax, method in zip(axes, TITLES, strict=True):
        draw_panel(ax, method, folders[method], runs[folders[method]])
    pixels = BytesIO()
    figure.savefig(pixels, format="png", dpi=160)
    picture = Image.open(pixels).convert("RGB").quantize(96, dither=Image.Dither.NONE)
    with atomic_write(options.target) as temporary:
        picture.save(temporary, format="PNG", optimize=True)


def draw_panel(ax: Axes, method: str, folder: Path, result: dict[str, Any]) -> None:
    """The field, the samples and UR of one run."""
    x = next(iter(saved_images.read(folder)["generation"].values())).numpy()[:POINTS]
    middle = posterior(x)[:, FORGOTTEN] > 0.5
    axis, score = score_field(load_model(folder / "model", torch.device("cpu")))
    speed = np.hypot(*score)
    ax.contourf(axis, axis, density(axis), levels=12, cmap=PAPER, zorder=0)
    ax.streamplot(
        *(axis, axis, *score),
        color=GREY,
        linewidth=0.25 + 0.75 * speed / speed.max(),
        density=0.9,
        arrowsize=0.55,
        zorder=1,
    )
    for mask, colour in ((~middle, RETAIN), (middle, FORGET)):
        ax.scatter(*x[mask].T, s=3.2, c=colour, alpha=0.75, linewidths=0, zorder=2)
    ax.add_patch(Circle((0, 0), 1.35, fill=False, ec=FORGET, lw=1.2, ls=(0, (3, 2)), zorder=3))
    name, note = TITLES[method]
    ur = next(r["value"] for r in result["metrics"] if r["metric"] == "ur")
    strong = FORGET if method == "standard" else INK
    for y, text, size, colour, weight in (
        (1.085, name, 12, INK, "bold"),
        (1.02, note, 8.5, GREY, "normal"),
        (-0.11, f"{ur:.1f} %", 15, strong, "bold"),
        (-0.185, "samples in the forgotten mode", 8.5, GREY, "normal"),
    ):
        style = {"size": size, "color": colour, "weight": weight, "ha": "center"}
        ax.text(0.5, y, text, transform=ax.transAxes, **style)
    ax.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), xticks=[], yticks=[], aspect="equal")
    for spine in ax.spines.values():
        spine.set(color="#cbd2d9", lw=0.8)


def score_field(model: Model) -> tuple[np.ndarray, np.ndarray]:
    """A grid's axis ``[G]`` and s(x, t) on it ``[2, G, G]``."""
    axis = torch.linspace(-REACH, REACH, 60)
    x = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
    t = torch.full((len(x),), TIME)
    _, sigma = model.process.marginal(t)
    with torch.no_grad():
        score = -model.eps_fn(x, t) / sigma[:, None]
    return axis.numpy(), score.T.reshape(2, len(axis), len(axis)).numpy()


def density(axis: np.ndarray) -> np.ndarray:
    """p(x) of all of D on a grid ``[G, G]``."""
    x = np.stack(np.meshgrid(axis, axis), axis=-1)
    return kernels(x.reshape(-1, 2)).sum(axis=1).reshape(len(axis), len(axis))


def posterior(x: np.ndarray) -> np.ndarray:
    """p(k | x) ``[N, 3]``."""
    joint = kernels(x)
    return joint / joint.sum(axis=1, keepdims=True)


def kernels(x: np.ndarray) -> np.ndarray:
    """w_k N(x; m_k, I) ``[N, 3]``."""
    distance = ((x[:, None] - MEANS) ** 2).sum(axis=2)
    return WEIGHTS * np.exp(-distance / 2) / (2 * np.pi)


if __name__ == "__main__":
    main()
