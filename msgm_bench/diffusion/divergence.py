"""div_x eps_hat(x, t), exactly or by Hutchinson's estimator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from msgm_bench.diffusion.noise_prediction import CountedEps

Divergence = Callable[[CountedEps, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(eps, x [N, *item_shape], t) -> (eps_hat [N, *item_shape], div eps_hat [N]), both detached."""


def exact(eps: CountedEps, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return eps_hat and sum_i d eps_hat_i / d x_i, by D vector-Jacobian products."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        eps_hat = eps(x, t)
        div = x.new_zeros(x.shape[0])
        rows = eps_hat.flatten(1).sum(0)
        for i in range(rows.numel() if eps_hat.requires_grad else 0):
            (row,) = torch.autograd.grad(
                rows[i], x, retain_graph=i + 1 < rows.numel(), materialize_grads=True
            )
            div = div + row.flatten(1)[:, i]
    return eps_hat.detach(), div


def hutchinson(probe: Tensor) -> Divergence:
    """Return the estimator probe . J probe, unbiased for E[probe probe^T] = I.

    Args:
        probe: One probe an item, shape [N, *item_shape].

    Source: Song et al. 2021, Eq. 40; Grathwohl et al. 2019, Eq. 7.
    """
    return hutchinson_mean([probe])


def hutchinson_mean(probes: Sequence[Tensor]) -> Divergence:
    """Return the mean over several probes of probe . J probe, on one graph of eps_hat.

    Args:
        probes: Each of shape [N, *item_shape].
    """

    def estimate(eps: CountedEps, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            eps_hat = eps(x, t)
            if not eps_hat.requires_grad:
                return eps_hat, x.new_zeros(x.shape[0])
            div = x.new_zeros(x.shape[0])
            for i, probe in enumerate(probes, 1):
                (vjp,) = torch.autograd.grad(
                    (eps_hat * probe).sum(),
                    x,
                    retain_graph=i < len(probes),
                    materialize_grads=True,
                )
                div = div + (vjp * probe).flatten(1).sum(1)
        return eps_hat.detach(), div / len(probes)

    return estimate
