"""What a backbone keeps: its process, and networks that fit it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from msgm_bench.api import Backbone, DataStats, Model
from msgm_bench.testing.checks import Check, require
from msgm_bench.testing.plugins import PLUGIN_CHECKS
from msgm_bench.testing.processes import check_process
from msgm_bench.testing.toys import PROMPTS, SEED, toy_images

SIZE = 16  # px: room for networks that halve it three or four times


@dataclass(frozen=True, eq=False)
class BackboneCase:
    """A backbone under check, on toy images."""

    cls: type[Backbone]
    options: Mapping[str, Any] | None = None

    def obstacle(self) -> str | None:
        """A network that only a base has; others are built, not read."""
        return "its networks are those of a base" if self.cls.needs_base else None

    @property
    def backbone(self) -> Backbone:
        """With its options."""
        return self.cls.create(self.options)

    @functools.cached_property
    def stats(self) -> DataStats:
        """Of the toy images; with prompts where models take a prompt."""
        stats = DataStats.of(toy_images(size=SIZE))
        return replace(stats, prompts=PROMPTS) if self.cls.text else stats

    @functools.cached_property
    def model(self) -> Model:
        """With the weights of one seed."""
        torch.manual_seed(SEED)
        return self.backbone.build(self.stats).eval()

    @functools.cached_property
    def inputs(self) -> tuple[Tensor, Tensor]:
        """x_t ``[5, C, H, W]`` and times ``[5]`` over [t_min, T]."""
        x = torch.randn(5, *self.stats.shape, generator=torch.Generator().manual_seed(SEED))
        return x, self.model.process.sample_times(torch.linspace(0, 0.999, 5))

    @functools.cached_property
    def eps(self) -> Tensor:
        """The prediction of ``model``."""
        with torch.no_grad():
            return self.model.eps(*self.inputs)


def _check_process(case: BackboneCase) -> None:
    check_process(case.backbone.process(case.stats))


def _check_prediction(case: BackboneCase) -> None:
    shape = tuple(case.eps.shape)
    assert shape == tuple(case.inputs[0].shape), f"{case.cls.name}: eps_hat has shape {shape}"
    assert bool(torch.isfinite(case.eps).all()), f"{case.cls.name}: eps_hat is not finite"


@torch.no_grad()
def _check_seed(case: BackboneCase) -> None:
    torch.manual_seed(SEED)
    second = case.backbone.build(case.stats).eval().eps(*case.inputs)
    assert torch.equal(case.eps, second), f"{case.cls.name}: the same seed builds other networks"


@torch.no_grad()
def _check_batch(case: BackboneCase) -> None:
    x, t = case.inputs
    alone = case.model.eps(x[:2], t[:2])
    apart = torch.allclose(case.eps[:2], alone, rtol=1e-3, atol=1e-4)
    assert apart, f"{case.cls.name}: eps_hat of an item depends on the rest of its batch"


def _check_condition(case: BackboneCase) -> str | None:
    backbone, stats = case.backbone, case.stats
    if case.cls.text:
        _check_conditions(backbone, _awake_model(backbone, stats), *case.inputs, "prompts")
        return None
    if not case.cls.conditional:
        return "its networks take no class"
    model = _awake_model(backbone, replace(stats, classes=3))
    _check_conditions(backbone, model, *case.inputs, "classes")
    return None


@torch.no_grad()
def _check_text(case: BackboneCase) -> str | None:
    if not case.cls.text:
        return "its networks take no prompt"
    (x, t), name = case.inputs, case.cls.name
    model = _awake_model(case.backbone, case.stats)
    c = torch.arange(len(x)) % (len(PROMPTS) + 1)
    eps, prompts = model.eps(x, t, c), model.prompts
    alone = torch.allclose(eps[:2], model.eps(x[:2], t[:2], c[:2]), rtol=1e-3, atol=1e-4)
    assert alone, f"{name}: eps_hat of an item depends on the prompts of its batch"
    embedded = torch.allclose(eps, model.eps(x, t, prompts.embed(c)), rtol=1e-3, atol=1e-4)
    assert embedded, f"{name}: the embeddings of prompts get another eps_hat than their indices"
    written = torch.allclose(
        prompts.embed_texts(PROMPTS), prompts.embed(c[: len(PROMPTS)]), rtol=1e-3, atol=1e-4
    )
    assert written, f"{name}: a text that is written again has other embeddings"
    return None


BACKBONE_CHECKS: tuple[Check[BackboneCase], ...] = (
    *PLUGIN_CHECKS,
    Check("process", "marginal, drift, diffusion, transitions and prior agree", _check_process),
    Check("prediction", "eps_hat is finite and has the shape of x_t", _check_prediction),
    Check("seed", "the same seed builds the same network", _check_seed),
    Check("batch", "eps_hat of an item does not depend on its batch", _check_batch),
    Check(
        "condition", "conditions and the null condition give different eps_hat", _check_condition
    ),
    Check("text", "eps_hat depends on a prompt's embedding alone", _check_text),
)


def check_backbone(cls: type[Backbone], options: Mapping[str, Any] | None = None) -> None:
    """A sound process, and networks that predict noise of the right shape at every time.

    The same seed builds the same network; in evaluation mode a prediction does not depend on the
    rest of the batch. One that is ``conditional`` tells the classes and the null class apart, one
    that is ``text`` the prompts and the empty prompt, by what their embeddings are.
    """
    require(BACKBONE_CHECKS, BackboneCase(cls, options))


@torch.no_grad()
def _awake_model(backbone: Backbone, stats: DataStats) -> Model:
    """A model whose weights all differ from 0: fresh ones may silence the network."""
    torch.manual_seed(SEED)
    model = backbone.build(stats).eval()
    for weight in model.parameters():
        weight.add_(0.1 * torch.randn_like(weight))
    return model


@torch.no_grad()
def _check_conditions(backbone: Backbone, model: Model, x: Tensor, t: Tensor, kind: str) -> None:
    """Refuse equal predictions for two of three conditions and the null condition."""
    predicted = [model.eps(x, t, torch.full((len(x),), c)) for c in range(4)]
    for a, b in itertools.combinations(range(4), 2):
        same = torch.equal(predicted[a], predicted[b])
        assert not same, f"{backbone.name}: {kind} {a} and {b} of 3 get one prediction"
