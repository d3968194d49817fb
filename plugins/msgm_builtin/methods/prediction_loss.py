"""Targets of a network's output, and its squared distance from another one."""

from __future__ import annotations

from torch import Tensor

from msgm_bench import Batch, Model, per_item


def prediction_loss(model: Model, t: Tensor, eps_hat: Tensor, target: Tensor) -> Tensor:
    """E w(t) |eps_hat - target|^2 / D, a scalar, where ``target`` is a prediction of noise, too.

    With w of ``Model.loss_weight`` outputs are compared as the network makes them: |v_hat - v'|^2
    of networks that predict v.
    """
    error = (eps_hat - target).square()
    if model.prediction_type == "epsilon":
        return error.mean()
    return (per_item(model.loss_weight(t), error) * error).mean()


def noise_to(model: Model, batch: Batch, x0: Tensor, limit: float) -> Tensor:
    """(x_t - a x0)/sigma, the noise that leads from x_t to ``x0 [N, *shape]``, within ``limit``."""
    a, sigma = (per_item(v, x0) for v in model.process.marginal(batch.t))
    return ((batch.x_t - a * x0) / sigma).clamp(-limit, limit)
