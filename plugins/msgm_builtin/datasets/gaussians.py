"""The MSGM paper's mixture of three Gaussians in the plane."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import (
    Data,
    Dataset,
    EpsFn,
    Examples,
    GaussianMixture,
    Options,
    Process,
    hookimpl,
    merge,
)

CLASSES = ("left", "middle", "right")
MEANS = ((-2.0, -2.0), (0.0, 0.0), (2.0, 2.0))
WEIGHTS = (0.4, 0.2, 0.4)  # the paper's 4/5, 2/5, 4/5, normalised
OFFSET = 8.0  # bits/dim + 8, the convention behind the paper's table 1 (docs/mathematics.md, 4)


class MixtureDensity:
    """The exact density of the mixture, of all its classes or of some."""

    def __init__(self) -> None:
        identity = torch.eye(2, dtype=torch.float64).expand(3, 2, 2)
        means = torch.tensor(MEANS, dtype=torch.float64)
        self.mixture = GaussianMixture(torch.tensor(WEIGHTS, dtype=torch.float64), means, identity)

    def _subset(self, classes: Sequence[int] | None) -> GaussianMixture:
        return self.mixture if classes is None else self.mixture.subset(list(classes))

    def log_prob(self, x: Tensor, classes: Sequence[int] | None = None) -> Tensor:
        """Log density in nats ``[N]``."""
        return self._subset(classes).log_prob(x)

    def posterior(self, x: Tensor) -> Tensor:
        """Probability of each class ``[N, 3]``."""
        return self.mixture.posterior(x)

    def typicality(self, x: Tensor) -> Tensor:
        """exp(-d^2/2), d the distance to the nearest mean: the chi^2 tail with two degrees."""
        d = torch.cdist(x.double(), self.mixture.means.to(x.device)).amin(dim=1)
        return torch.exp(-d.square() / 2)

    def eps(self, process: Process, classes: Sequence[int] | None = None) -> EpsFn:
        """Exact eps_hat(x_t, t) = -sigma grad log p_t(x_t)."""
        return self._subset(classes).eps(process)


class GaussiansOptions(Options):
    """Numbers of points."""

    train_size: int = Field(50_000, ge=100, le=10_000_000, description="training points")
    test_size: int = Field(
        60_000, ge=100, le=10_000_000, description="held-out points; a fifth is D_f"
    )


class Gaussians(Dataset[GaussiansOptions]):
    """Three overlapping Gaussians in the plane (left, middle, right); forget the middle.

    p = 0.4 N((-2, -2), I) + 0.2 N((0, 0), I) + 0.4 N((2, 2), I). Score, likelihood and the
    optimum of every MSGM objective are known exactly.
    """

    name = "gaussians"
    citation = "MSGM, arXiv:2412.07229, section 3.2"
    default_preset = "quick"
    presets = {
        "quick": {
            "training": {
                "steps": 4000,
                "batch_size": 512,
                "learning_rate": 2e-3,
                "warmup_steps": 200,
                "lr_schedule": "cosine",
                "ema_decay": 0.999,
            },
            "finetuning": {"steps": 2000, "learning_rate": 5e-4},
            "backbone": {"network": "mlp", "width": 96, "depth": 2},
            "judge": {"name": "bayes"},
            "tasks": {"likelihood": {"divergence": "exact", "batch_size": 5000}},
        },
        "full": {
            "training": {
                "steps": 50_000,
                "batch_size": 1024,
                "learning_rate": 1e-3,
                "warmup_steps": 1000,
                "lr_schedule": "cosine",
                "ema_decay": 0.9995,
            },
            "finetuning": {"steps": 20_000, "learning_rate": 2e-4},
            "backbone": {"network": "mlp", "width": 128, "depth": 3},
            "judge": {"name": "bayes"},
            "tasks": {"likelihood": {"divergence": "exact", "batch_size": 5000}},
        },
    }
    # the paper states no budget for its toy: four methods take about half an hour on two cores
    presets["paper"] = merge(presets["full"], {"training": {"steps": 20_000}})

    def load(self) -> Data:
        """Draw both splits, from the dataset's own seeds."""
        density = MixtureDensity()

        def draw(count: int, seed: int) -> Examples:
            x, y = density.mixture.sample(count, torch.Generator().manual_seed(seed))
            return Examples(x.float(), y)

        return Data(
            train=draw(self.options.train_size, 20_241_210),
            test=draw(self.options.test_size, 20_241_211),
            classes=CLASSES,
            density=density,
            protocol="gaussians/mixture@1",
            nll_offset=OFFSET,
        )


@hookimpl
def register_datasets() -> Sequence[type[Dataset]]:
    """The mixture."""
    return [Gaussians]
