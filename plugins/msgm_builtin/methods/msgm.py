"""Orthogonal and Obtuse MSGM: the score on D_f against the perturbation kernel's score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import Method, OneOf, hookimpl
from msgm_builtin.methods.msgm_base import MSGM, MSGMOptions


class OrthogonalOptions(MSGMOptions):
    """MSGM's options and the product."""

    product: Literal["inner", "elementwise"] = Field(
        "inner", description="inner: equation 7; elementwise: the released code"
    )


class Orthogonal(MSGM[OrthogonalOptions]):
    """MSGM-Orthogonal: makes the score on D_f orthogonal to the perturbation kernel's score.

    L = alpha L_g + (1 - alpha) L_f,    L_f = E (eps_hat . eps / D)^2    on D_f

    Equation 7 with lambda = sigma^4; the optimum damps the score to zero on D_f.
    Cost: one pass on D_g a step, one more on D_f at every ``forget_interval``-th.
    Variants and the released code: docs/methods/ort.md.
    """

    name = "ort"

    def forget_loss(self, eps_hat: Tensor, eps: Tensor) -> Tensor:
        """E (eps_hat . eps / D)^2, or E mean_i (eps_hat_i eps_i)^2."""
        product = (eps_hat * eps).flatten(1)
        if self.options.product == "elementwise":
            return product.square().mean()
        return product.mean(dim=1).square().mean()


class ObtuseOptions(MSGMOptions):
    """MSGM's options, the sign and the stabilisers."""

    sign: Literal["paper", "released"] = Field(
        "paper", description="paper: equation 8; released: the code's opposite sign"
    )
    use_cosine: bool = Field(
        False, description="the cosine of eps_hat and eps in the place of eps_hat . eps / D"
    )
    hinge: float | None = Field(
        None, gt=0, description="an item whose eps_hat.eps/D is below minus this has no gradient"
    )
    max_error: float | None = Field(
        None, gt=0, description="an item whose |eps_hat - eps|^2/D is above this has no gradient"
    )
    norm_weight: float = Field(
        0.0, ge=0, description="weight of |eps_hat|^2/D on D_f; 0.5 mirrors the score of D_f"
    )


class Obtuse(MSGM[ObtuseOptions]):
    """MSGM-Obtuse: turns the score on D_f to an obtuse angle with the kernel's score.

    L = alpha L_g + (1 - alpha) L_f,    L_f = E eps_hat . eps / D    on D_f

    Equation 8 with lambda = sigma^2. Not bounded below where p_g vanishes: ``hinge``,
    ``max_error`` and ``norm_weight`` bound it.
    Cost: one pass on D_g a step, one more on D_f at every ``forget_interval``-th.
    Variants and the released code: docs/methods/obt.md.
    """

    name = "obt"
    search_space = {
        **MSGM.search_space,
        "hinge": OneOf((None, 0.5, 1.0)),
        "norm_weight": OneOf((0.0, 0.1, 0.5)),
    }

    def forget_loss(self, eps_hat: Tensor, eps: Tensor) -> Tensor:
        """E eps_hat . eps / D with its stabilisers."""
        c = self.options
        inner = (eps_hat * eps).flatten(1).mean(dim=1)
        if c.use_cosine:
            inner = torch.cosine_similarity(eps_hat.flatten(1), eps.flatten(1), dim=1)
        if c.sign == "released":
            inner = -inner
        if c.hinge is not None:
            inner = inner.clamp(min=-c.hinge)
        if c.max_error is not None:
            error = (eps_hat - eps).detach().square().flatten(1).mean(dim=1)
            inner = torch.where(error < c.max_error, inner, inner.detach())
        loss = inner.mean()
        return loss + c.norm_weight * eps_hat.square().mean() if c.norm_weight else loss


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """Orthogonal, Obtuse."""
    return [Orthogonal, Obtuse]
