"""What a sampler keeps: the distribution of a model whose score is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from msgm_bench.api import IdentityCodec, Model, Sampler
from msgm_bench.diffusion import (
    DiscreteDDPM,
    Noise,
    Process,
    Samples,
    VarianceExploding,
    VariancePreserving,
    per_item,
)
from msgm_bench.errors import UsageError
from msgm_bench.testing.plugins import check_plugin

MEAN, STD, SHAPE = 0.5, 0.7, (2,)
COUNT = 4_096
Z = 5.0  # standard errors of a moment: one in 1.7 million draws lies beyond
BIAS = 0.05  # of the reverse process in so many steps, in standard deviations
PROCESSES = (VariancePreserving(), VarianceExploding(0.01, 20.0), DiscreteDDPM())


class _Exact(nn.Module):
    """eps_hat = sigma (x_t - a m) / (a^2 s^2 + sigma^2), exact for x0 ~ N(m, s^2 I)."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process, self.calls = process, 0

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        self.calls += 1
        a, sigma = (per_item(v, x_t) for v in self.process.marginal(t))
        return sigma * (x_t - a * MEAN) / (a**2 * STD**2 + sigma**2)


def check_sampler(
    cls: type[Sampler], options: Mapping[str, Any] | None = None, *, exact: bool = True
) -> None:
    """On each process that it takes, it draws N(m, s^2 I) from the exact score of N(m, s^2 I).

    Mean and standard deviation of ``COUNT`` draws of two dimensions lie within ``Z`` standard
    errors, plus ``BIAS`` s for the steps. The same noise gives the same items, another seed gives
    others, and an item does not depend on its batch; ``nfe`` counts the evaluations that were
    made, and keeps to an option of that name; a given start is where it starts.

    Args:
        cls: The sampler.
        options: Its options.
        exact: False for a sampler of models that predict no noise (one-step generators).
    """
    check_plugin(cls)
    tried = 0
    for process in PROCESSES:
        model = Model(_Exact(process), process, IdentityCodec(0.0), SHAPE).eval()
        sampler, label = cls.create(options), f"{cls.name} on {type(process).__name__}"
        try:
            sampler.check(model)
        except UsageError:
            continue
        tried += 1
        samples = _check_cost(label, sampler, model)
        _check_noise(label, sampler, model, samples.x)
        if exact:
            _check_moments(label, samples.x)
            _check_start(label, sampler, model)
    assert tried, f"{cls.name}: refuses every process"


def _draw(sampler: Sampler, model: Model, seed: int, start: int, count: int) -> Samples:
    return sampler.sample(model, Noise(seed, start, count))


def _check_cost(label: str, sampler: Sampler, model: Model) -> Samples:
    assert isinstance(model.network, _Exact)
    model.network.calls = 0
    torch.manual_seed(0)
    samples = _draw(sampler, model, 0, 0, COUNT)
    calls, x = model.network.calls, samples.x
    assert x.shape == (COUNT, *SHAPE), f"{label}: {COUNT} items have shape {tuple(x.shape)}"
    assert not x.requires_grad, f"{label}: samples carry a graph"
    assert bool(torch.isfinite(x).all()), f"{label}: samples are not finite"
    right = samples.nfe == calls
    assert right, f"{label}: reports {samples.nfe} evaluations a sample, {calls} were made"
    budget = getattr(sampler.options, "nfe", None)
    assert budget is None or calls <= budget, f"{label}: {calls} evaluations of {budget} allowed"
    return samples


def _check_noise(label: str, sampler: Sampler, model: Model, x: Tensor) -> None:
    torch.manual_seed(1)
    again = _draw(sampler, model, 0, 0, COUNT).x
    assert torch.equal(x, again), f"{label}: the same noise gives other items"
    parts = torch.cat([_draw(sampler, model, 0, 0, 5).x, _draw(sampler, model, 0, 5, 6).x])
    alike = torch.allclose(x[:11], parts, rtol=1e-3, atol=1e-3)
    assert alike, f"{label}: an item depends on its batch"
    other = _draw(sampler, model, 1, 0, 5).x
    assert not torch.allclose(x[:5], other, atol=1e-3), f"{label}: another seed, the same items"


def _check_moments(label: str, x: Tensor) -> None:
    n = x.numel()
    mean, std = float(x.double().mean()), float(x.double().std())
    off = abs(mean - MEAN) / STD
    bound = Z / math.sqrt(n) + BIAS
    assert off <= bound, f"{label}: the mean is {mean:.3f}, it should be {MEAN} (bound {bound:.3f})"
    off, bound = abs(std / STD - 1), Z / math.sqrt(2 * n) + BIAS
    assert off <= bound, (
        f"{label}: the standard deviation is {std:.3f}, it should be {STD} (bound {bound:.3f})"
    )


def _check_start(label: str, sampler: Sampler, model: Model) -> None:
    """From x_t of known items at a small t it ends near them, whatever it does on the way."""
    t = 0.02
    try:
        sampler.check(model, t)
    except UsageError:
        return
    noise = Noise(3, 0, 64)
    x0 = MEAN + STD * noise.normal(SHAPE)
    x_t = model.process.perturb(x0, torch.full((64,), t), noise.normal(SHAPE))
    x = sampler.sample(model, Noise(4, 0, 64), (x_t, t)).x
    pair = torch.stack([x.flatten(), x0.flatten()])
    correlation = float(torch.corrcoef(pair)[0, 1])
    assert correlation > 0.5, (
        f"{label}: from x_t at t = {t} it ends at items that have a correlation of "
        f"{correlation:.2f} with x0: does it start there?"
    )
