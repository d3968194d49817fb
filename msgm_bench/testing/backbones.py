"""What a backbone keeps: its process, and networks that fit it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from msgm_bench.api import Backbone, DataStats
from msgm_bench.testing.plugins import check_plugin
from msgm_bench.testing.processes import check_process
from msgm_bench.testing.toys import SEED, toy_images


def check_backbone(cls: type[Backbone], options: Mapping[str, Any] | None = None) -> None:
    """A sound process, and networks that predict noise of the right shape at every time.

    The same seed builds the same network; in evaluation mode a prediction does not depend on the
    rest of the batch. One that is ``conditional`` tells the classes and the null class apart.
    """
    check_plugin(cls)
    stats = DataStats.of(toy_images())
    check_process(cls.create(options).process(stats))
    models = []
    for _ in range(2):
        torch.manual_seed(SEED)
        models.append(cls.create(options).build(stats).eval())
    t = models[0].process.sample_times(torch.linspace(0, 0.999, 5))
    x = torch.randn(5, *stats.shape, generator=torch.Generator().manual_seed(SEED))
    with torch.no_grad():
        first, second = (model.eps(x, t) for model in models)
        alone = models[0].eps(x[:2], t[:2])
    assert first.shape == x.shape, f"{cls.name}: eps_hat has shape {tuple(first.shape)}"
    assert bool(torch.isfinite(first).all()), f"{cls.name}: eps_hat is not finite"
    assert torch.equal(first, second), f"{cls.name}: the same seed builds other networks"
    apart = torch.allclose(first[:2], alone, rtol=1e-3, atol=1e-4)
    assert apart, f"{cls.name}: eps_hat of an item depends on the rest of its batch"
    if cls.conditional:
        _check_classes(cls.create(options), stats, x, t)


@torch.no_grad()
def _check_classes(backbone: Backbone, stats: DataStats, x: Tensor, t: Tensor) -> None:
    torch.manual_seed(SEED)
    model = backbone.build(replace(stats, classes=3)).eval()
    for weight in model.parameters():  # fresh weights may silence the network
        weight.add_(0.1 * torch.randn_like(weight))
    predicted = [model.eps(x, t, torch.full((len(x),), c)) for c in range(4)]
    for a, b in itertools.combinations(range(4), 2):
        same = torch.equal(predicted[a], predicted[b])
        assert not same, f"{backbone.name}: classes {a} and {b} of 3 get one prediction"
