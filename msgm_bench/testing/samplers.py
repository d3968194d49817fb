"""What a sampler keeps: the distribution of a model whose score is known."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
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
from msgm_bench.testing.checks import Check, require
from msgm_bench.testing.plugins import PLUGIN_CHECKS

MEAN, STD, SHAPE = 0.5, 0.7, (2,)
COUNT = 4_096
Z = 5.0  # standard errors of a moment: one in 1.7 million draws lies beyond
BIAS = 0.05  # of the reverse process in so many steps, in standard deviations
NO_DIFFUSION = "it draws from models that predict no noise"
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


@dataclass(frozen=True, eq=False)
class SamplerCase:
    """A sampler under check.

    Attributes:
        cls: The sampler.
        options: Its options.
    """

    cls: type[Sampler]
    options: Mapping[str, Any] | None = None

    def obstacle(self) -> str | None:
        """Nothing: the models are made here."""
        return None

    @functools.cached_property
    def trials(self) -> list[_Trial]:
        """One for each process that the sampler takes."""
        trials = []
        for process in PROCESSES:
            model = Model(_Exact(process), process, IdentityCodec(0.0), SHAPE).eval()
            sampler = self.cls.create(self.options)
            try:
                sampler.check(model)
            except UsageError:
                continue
            trials.append(_Trial(f"{self.cls.name} on {type(process).__name__}", sampler, model))
        assert trials, f"{self.cls.name}: refuses every process"
        return trials


@dataclass(frozen=True, eq=False)
class _Trial:
    """A sampler on one process."""

    label: str
    sampler: Sampler
    model: Model

    def draw(self, seed: int, start: int, count: int) -> Samples:
        """Items ``start ..`` of the noise of ``seed``."""
        return self.sampler.sample(self.model, Noise(seed, start, count))

    @functools.cached_property
    def drawn(self) -> tuple[Samples, int]:
        """``COUNT`` samples, and the evaluations that were made for each."""
        network = self.model.network
        assert isinstance(network, _Exact)
        network.calls = 0
        torch.manual_seed(0)
        return self.draw(0, 0, COUNT), network.calls

    @property
    def x(self) -> Tensor:
        """The samples."""
        return self.drawn[0].x


def _check_items(case: SamplerCase) -> None:
    for trial in case.trials:
        x, label = trial.x, trial.label
        assert x.shape == (COUNT, *SHAPE), f"{label}: {COUNT} items have shape {tuple(x.shape)}"
        assert not x.requires_grad, f"{label}: samples carry a graph"
        assert bool(torch.isfinite(x).all()), f"{label}: samples are not finite"


def _check_cost(case: SamplerCase) -> None:
    for trial in case.trials:
        (samples, calls), label = trial.drawn, trial.label
        right = samples.nfe == calls
        assert right, f"{label}: reports {samples.nfe} evaluations a sample, {calls} were made"
        budget = getattr(trial.sampler.options, "nfe", None)
        within = budget is None or calls <= budget
        assert within, f"{label}: {calls} evaluations of {budget} allowed"


def _check_noise(case: SamplerCase) -> None:
    for trial in case.trials:
        torch.manual_seed(1)
        same = torch.equal(trial.x, trial.draw(0, 0, COUNT).x)
        assert same, f"{trial.label}: the same noise gives other items"
        other = trial.draw(1, 0, 5).x
        alike = torch.allclose(trial.x[:5], other, atol=1e-3)
        assert not alike, f"{trial.label}: another seed, the same items"


def _check_batch(case: SamplerCase) -> None:
    for trial in case.trials:
        parts = torch.cat([trial.draw(0, 0, 5).x, trial.draw(0, 5, 6).x])
        alike = torch.allclose(trial.x[:11], parts, rtol=1e-3, atol=1e-3)
        assert alike, f"{trial.label}: an item depends on its batch"


def _check_moments(case: SamplerCase) -> str | None:
    if case.cls.one_step:
        return NO_DIFFUSION
    for trial in case.trials:
        _check_normal(trial.label, trial.x)
    return None


def _check_start(case: SamplerCase) -> str | None:
    if case.cls.one_step:
        return NO_DIFFUSION
    started = [_check_continued(trial.label, trial.sampler, trial.model) for trial in case.trials]
    return None if any(started) else "it starts from the prior only"


def _check_normal(label: str, x: Tensor) -> None:
    n = x.numel()
    mean, std = float(x.double().mean()), float(x.double().std())
    off = abs(mean - MEAN) / STD
    bound = Z / math.sqrt(n) + BIAS
    assert off <= bound, f"{label}: the mean is {mean:.3f}, it should be {MEAN} (bound {bound:.3f})"
    off, bound = abs(std / STD - 1), Z / math.sqrt(2 * n) + BIAS
    assert off <= bound, (
        f"{label}: the standard deviation is {std:.3f}, it should be {STD} (bound {bound:.3f})"
    )


def _check_continued(label: str, sampler: Sampler, model: Model) -> bool:
    """From x_t of known items at a small t it ends near them, whatever it does on the way."""
    t = 0.02
    try:
        sampler.check(model, t)
    except UsageError:
        return False
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
    return True


SAMPLER_CHECKS: tuple[Check[SamplerCase], ...] = (
    *PLUGIN_CHECKS,
    Check("samples", "finite, of the right shape, on a process that it takes", _check_items),
    Check("evaluations", "nfe is what was spent, and keeps to the budget", _check_cost),
    Check("seed", "the same noise gives the same items, other noise others", _check_noise),
    Check("batch", "an item does not depend on its batch", _check_batch),
    Check("distribution", "N(m, s^2 I) from its exact score, mean and spread", _check_moments),
    Check("start", "goes on from x_t where it is to start there", _check_start),
)


def check_sampler(cls: type[Sampler], options: Mapping[str, Any] | None = None) -> None:
    """On each process that it takes, it draws N(m, s^2 I) from the exact score of N(m, s^2 I).

    Mean and standard deviation of ``COUNT`` draws of two dimensions lie within ``Z`` standard
    errors, plus ``BIAS`` s for the steps. The same noise gives the same items, another seed gives
    others, and an item does not depend on its batch; ``nfe`` counts the evaluations that were
    made, and keeps to an option of that name; a given start is where it starts. Samplers of
    one-step generators need not know the distribution of a diffusion.

    Args:
        cls: The sampler.
        options: Its options.
    """
    require(SAMPLER_CHECKS, SamplerCase(cls, options))
