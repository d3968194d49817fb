"""NegGrad: gradient ascent on D_f."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor

from msgm_bench import (
    Batches,
    LogRange,
    LossMethod,
    Method,
    Model,
    Multiples,
    WeightsOptions,
    dsm_loss,
    hookimpl,
)


class NegGradOptions(WeightsOptions):
    """Weight of D_g and bound of the ascent."""

    retain_weight: float = Field(1.0, ge=0, description="w, weight of L_r; 0: ascent alone")
    clipping: Literal["pixel", "item", "none"] = Field(
        "pixel", description="unit whose squared error is clipped at max_error; none: unbounded"
    )
    max_error: float = Field(
        1.0, gt=0, description="squared error at which the ascent stops; eps_hat = 0 has 1"
    )


class NegGrad(LossMethod[NegGradOptions]):
    """NegGrad: descends the loss on D_g and climbs the loss on D_f up to a bound.

    L = w L_r - L_f,    L_r = E |eps_hat(x_t, t) - eps|^2 / D                    on D_g
                        L_f = E mean_i min((eps_hat_i - eps_i)^2, max_error)     on D_f

    Past ``max_error`` an error has no gradient, so that the ascent ends.
    Cost: two passes a step.
    Variants and sources: docs/methods/neggrad.md.
    """

    name = "neggrad"
    citation = "Golatkar et al. 2020, arXiv:1911.04933; with L_r Kurmanji et al. 2023, 2302.09880"
    regimes = ("finetune", "retrain")
    needs = frozenset({"retain", "forget"})
    presets = {
        "quick": {
            "method": {"retain_weight": 50.0},  # 1 damages the samples of D_g
            "text": {"method": {"retain_weight": 5.0}},
        }
    }
    search_space = {
        "retain_weight": LogRange(1.0, 300.0),
        "max_error": LogRange(0.3, 3.0),
        "training.learning_rate": Multiples(0.1, 10.0),
    }

    def loss(self, model: Model, batches: Batches, step: int) -> Tensor:
        """L = w L_r - L_f."""
        forget = batches.forget
        L_r = dsm_loss(model, batches.retain)
        eps_hat = model.eps(forget.x_t, forget.t, forget.condition)
        L_f = self.clipped_error((eps_hat - forget.eps).square())
        self.record(loss_retain=L_r, loss_forget=L_f)
        return self.options.retain_weight * L_r - L_f

    def step_kind(self, step: int) -> str:
        """All steps are alike."""
        return self.name

    def clipped_error(self, error: Tensor) -> Tensor:
        """Mean of the squared errors ``[N, *shape]``, clipped at ``max_error``."""
        c = self.options
        if c.clipping == "none":
            return error.mean()
        if c.clipping == "item":
            error = error.flatten(1).mean(dim=1)
        return error.clamp(max=c.max_error).mean()


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """NegGrad."""
    return [NegGrad]
