"""SFD's two losses, item by item, and the batch of random numbers that they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from msgm_bench import Model, per_item

MIN_OMEGA = 1e-5


@dataclass(frozen=True)
class GeneratorBatch:
    """The random numbers of a batch of N items.

    Attributes:
        c: Conditions ``int64 [N]`` of the generated items.
        s: Conditions at which phi is evaluated: ``int64 [N]``, or embeddings ``[N, L, d]``.
        w: Weights ``[N]``.
        t: Times ``[N]`` of the distillation.
        z: The generator's noise ``[N, *shape]``, of variance 1.
        eps: The distillation's noise ``[N, *shape]``.
    """

    c: Tensor
    s: Tensor
    w: Tensor
    t: Tensor
    z: Tensor
    eps: Tensor


def generate(theta: Model, batch: GeneratorBatch, t_i: float) -> Tensor:
    """x_g = x0_hat(sigma(t_i) z, t_i, c) of theta, ``[N, *shape]``."""
    t = torch.full_like(batch.z.flatten(1)[:, 0], t_i)
    _, sigma = theta.process.marginal(t)
    return x0_hat(theta, per_item(sigma, batch.z) * batch.z, t, batch.c)


def x0_hat(model: Model, x_t: Tensor, t: Tensor, c: Tensor) -> Tensor:
    """(x_t - sigma eps_hat(x_t, t, c))/a, ``[N, *shape]``."""
    a, sigma = (per_item(v, x_t) for v in model.process.marginal(t))
    return (x_t - sigma * model.eps(x_t, t, c)) / a


def fake_score_loss(psi: Model, x_g: Tensor, batch: GeneratorBatch) -> Tensor:
    """w(t) |eps_psi(x_t, t, c) - eps|^2 of each item, ``[N]``, with w of ``Model.loss_weight``."""
    x_t = psi.process.perturb(x_g, batch.t, batch.eps)
    error = (psi.eps(x_t, batch.t, batch.c) - batch.eps).square().flatten(1).sum(1)
    return psi.loss_weight(batch.t) * error


def generator_loss(
    phi: Model, psi: Model, x_g: Tensor, batch: GeneratorBatch, alpha: float
) -> Tensor:
    """(x_phi - x_psi) . (x_phi - x_g - alpha (x_phi - x_psi))/omega of each item, ``[N]``."""
    x_t = phi.process.perturb(x_g, batch.t, batch.eps)
    x_phi, x_psi = x0_hat(phi, x_t, batch.t, batch.s), x0_hat(psi, x_t, batch.t, batch.c)
    omega = (x_phi - x_g).detach().abs().flatten(1).mean(1).clamp(min=MIN_OMEGA)
    products = (x_phi - x_psi) * (x_phi - x_g - alpha * (x_phi - x_psi))
    return products.flatten(1).sum(1) / omega


def weighted_sum(loss: Tensor, batch: GeneratorBatch, reduction: Literal["sum", "mean"]) -> Tensor:
    """sum_n w_n loss_n of ``loss [N]``, which sums over dimensions, or over D (mean)."""
    total = (batch.w * loss).sum()
    return total if reduction == "sum" else total / batch.z[0].numel()
