"""A model whose noise prediction is exact, on images that a judge of four numbers tells apart."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from msgm_bench import (
    Data,
    Examples,
    Judge,
    Model,
    ModelContext,
    Prediction,
    UniformDequantization,
    VarianceExploding,
    registry,
)

MEAN, STD = 0.5, 0.2
CPU = torch.device("cpu")


class Exact(nn.Module):
    """eps_hat = sigma (x_t - a m) / (a^2 s^2 + sigma^2), the optimum for x0 ~ N(m, s^2 I)."""

    def __init__(self, process):
        super().__init__()
        self.process = process

    def forward(self, x_t, t, condition=None):
        """eps_hat."""
        a, sigma = (v.reshape(-1, 1, 1, 1) for v in self.process.marginal(t))
        return sigma * (x_t - a * MEAN) / (a**2 * STD**2 + sigma**2)


class Quadrants(Judge):
    """The class is the brightest quadrant; the features are the means of the quadrants."""

    name = "quadrants"

    def fit(self, data, seed, device):
        """Nothing to learn."""

    def features(self, x):
        """Four means."""
        return F.adaptive_avg_pool2d(x.float(), 2).mean(dim=1).flatten(1)

    def predict(self, x):
        """The brightest."""
        classes = self.features(torch.nan_to_num(x)).argmax(dim=1)
        return Prediction(classes, torch.ones_like(classes, dtype=torch.bool))


class Blind(Quadrants):
    """A judge without features."""

    name = "blind"
    features = Judge.features


def images(count, channels=1, seed=0):
    """``count`` images of 8x8 pixels and 17 grey levels with one bright quadrant each."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 4
    x = torch.randint(0, 9, (count, channels, 8, 8), generator=generator)
    for i, label in enumerate(y.tolist()):
        top, left = 4 * (label // 2), 4 * (label % 2)
        x[i, :, top : top + 4, left : left + 4] += 7
    return Examples(x.to(torch.uint8), y)


def context(*, judge=None, process=None, channels=1, test=60, reference=None):
    """The exact model on these images; the fourth class is to be forgotten."""
    data = Data(
        images(160, channels, 1), images(test, channels, 2), tuple("abcd"), 17, protocol="toy@1"
    )
    process = process or VarianceExploding(0.01, 8.0)
    model = Model(Exact(process), process, UniformDequantization(17), data.shape).eval()
    retain, forget = data.split(data.test, (3,))
    judge = judge or Quadrants()
    return ModelContext(
        model=model,
        data=data,
        targets=(3,),
        retain=retain,
        forget=forget,
        judge=judge,
        judge_id={"name": judge.name},
        seed=5,
        device=CPU,
        create=registry.registry().create,
        reference=reference or {},
    )


def perfect(model_context, task):
    """The artifact of a model that restores every image exactly."""
    return {"x": task.originals(model_context, 0, task.total(model_context))}
