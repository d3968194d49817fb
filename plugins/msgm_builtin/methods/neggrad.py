"""NegGrad: gradient ascent on the forgotten data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor

from msgm_bench import Batches, LossMethod, Method, Model, Options, dsm_loss, hookimpl


class NegGradOptions(Options):
    """Weight and ceiling."""

    retain_weight: float = Field(1.0, ge=0, description="w, weight of L_r; 0: ascent alone")
    clipping: Literal["pixel", "item", "none"] = Field(
        "pixel", description="whose squared error is cut off at cap; none: unbounded"
    )
    max_error: float = Field(
        1.0, gt=0, description="squared error at which the ascent stops; eps_hat = 0 has 1"
    )


class NegGrad(LossMethod[NegGradOptions]):
    """NegGrad: descends the loss on D_g and climbs the loss on D_f, up to a ceiling.

    Objective: w L_r - min(L_f, cap), both denoising score matching, |eps_hat - eps|^2/D. The
    ascent has no end of its own, so errors are cut off at ``max_error``, of each pixel or of each
    item's mean: past it they have no gradient. The plain method is clipping=none (unbounded);
    retain_weight=0 is ascent alone.
    Adapted: a classifier's loss in the paper, the noise's squared error here. (A baseline of
    this name in the released code of EraseDiff climbs on the data to keep; this one does not.)
    No budget is published for diffusion models: the dataset's stands in every preset; the
    weight w of quick was chosen on digits.
    Cost: two passes a step.
    """

    name = "neggrad"
    citation = "Golatkar et al. 2020, arXiv:1911.04933; with L_r Kurmanji et al. 2023, 2302.09880"
    regimes = ("finetune", "retrain")
    needs = frozenset({"retain", "forget"})
    presets = {"quick": {"method": {"retain_weight": 50.0}}}  # 1 damages what is to be kept

    def loss(self, model: Model, batches: Batches, step: int) -> Tensor:
        """W L_r - L_f."""
        forget = batches.forget
        L_r = dsm_loss(model, batches.retain)
        L_f = self.ceiled((model.eps(forget.x_t, forget.t, forget.condition) - forget.eps).square())
        self.record(loss_retain=L_r, loss_forget=L_f)
        return self.options.retain_weight * L_r - L_f

    def ceiled(self, error: Tensor) -> Tensor:
        """Mean of the squared errors ``[N, *shape]``, cut off at ``max_error``."""
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
