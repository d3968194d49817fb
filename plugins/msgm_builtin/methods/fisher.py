"""The Fisher diagonal of Selective Amnesia's elastic weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msgm_bench import Batch, Session, dsm_loss
from msgm_builtin.methods.generated_data import GeneratedItems

TIMESTEPS = 1000  # of the sum in F


class Fisher(nn.Module):
    """F_i = E_x [(sum_t d/dtheta_i |eps_hat(x_t, t, c) - eps|^2)^2], ``[P]``; survives a kill.

    The gradient of an item is summed over ``TIMESTEPS`` times, then squared, then averaged over
    items.

    Args:
        P: Number of weights.
        timesteps: Times at which each item is evaluated; the mean of fewer than ``TIMESTEPS``,
            evenly spread, stands for theirs, so that F keeps its scale.
    """

    diagonal: Tensor

    def __init__(self, P: int, timesteps: int) -> None:
        super().__init__()
        self.register_buffer("diagonal", torch.zeros(P))
        self.timesteps = timesteps

    def add_item(self, session: Session, memory: GeneratedItems, item: int) -> None:
        """Add the square of the gradient of one of ``memory``'s items to F."""
        g = self.summed_gradient(session, memory, item)
        self.diagonal += g.square() / len(memory)

    def summed_gradient(self, session: Session, memory: GeneratedItems, item: int) -> Tensor:
        """sum_t d/dtheta |eps_hat(x_t, t, c) - eps|^2 of one item ``[P]``."""
        model, n = session.model, self.timesteps
        x0, y = memory.x[item], memory.y[item]
        t = model.process.sample_times((torch.arange(n, device=y.device) + 0.5) / n)
        eps = session.noise("fisher", item, count=n).normal(model.shape)
        total = torch.zeros_like(self.diagonal)
        for t_i, eps_i in zip(*(v.split(session.batch_size) for v in (t, eps)), strict=True):
            x, c = x0.expand_as(eps_i), y.expand_as(t_i)
            x_t = model.process.perturb(x, t_i, eps_i)
            batch = Batch(x, t_i, eps_i, x_t, c, None if model.conditioning is None else c)
            (gradient,) = session.gradients(len(c) * squared_norm(session, batch))
            total += gradient
        return TIMESTEPS / n * total


def squared_norm(session: Session, batch: Batch) -> Tensor:
    """E |eps_hat - eps|^2, summed over D."""
    return session.model.dim * dsm_loss(session.model, batch)
