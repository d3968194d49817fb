"""SalUn's mask: the weights that are salient to D_f."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor, nn

from msgm_bench import Conditioned, Session, dsm_loss


class Saliency(nn.Module):
    """m = 1 for the top ``fraction`` of all weights by |G|; both survive a kill.

    G = sum_B clip_1(grad E |eps_hat(x_t, t) - eps|^2)    over the batches B of one pass through D_f

    Args:
        session: Its model's trainable weights are ranked.
        fraction: Share of the weights with m = 1.
        guidance: w of (1 + w) eps_c - w eps_null in the place of eps_hat, where the model is
            class-conditional.
        reduction: Of the loss over the D dimensions, before its gradient is clipped.
    """

    total: Tensor
    mask: Tensor

    def __init__(
        self, session: Session, fraction: float, guidance: float, reduction: Literal["sum", "mean"]
    ) -> None:
        super().__init__()
        self.fraction, self.guidance, self.reduction = fraction, guidance, reduction
        weights = [p.detach() for p in session.model.parameters() if p.requires_grad]
        flat = torch.cat([torch.zeros_like(weight).reshape(-1) for weight in weights])
        self.register_buffer("total", flat.float())
        self.register_buffer("mask", torch.zeros_like(flat, dtype=torch.bool))

    def num_batches(self, session: Session) -> int:
        """Batches of one pass through D_f."""
        return math.ceil(len(session.items("forget")) / session.batch_size)

    def add_batch(self, session: Session, i: int) -> None:
        """Add the clipped gradient of batch ``i`` to G; after the last, rank."""
        first = i * session.batch_size
        items = session.items("forget")[slice(first, first + session.batch_size)]
        batch = session.noised(items, i, "saliency")
        model = session.model
        if model.conditioning is not None:
            model = Conditioned(model, batch.y, self.guidance)
        loss = dsm_loss(model, replace(batch, condition=None))
        D = session.model.dim if self.reduction == "sum" else 1
        (gradient,) = session.gradients(D * loss)
        self.total += clip_to_unit_norm(gradient)
        if i + 1 == self.num_batches(session):
            self.mask.copy_(top_mask(self.total.abs(), self.fraction))


def clip_to_unit_norm(gradient: Tensor) -> Tensor:
    """``gradient [P]``, scaled down to norm 1 where it is longer."""
    norm: Tensor = gradient.norm()
    return gradient / norm.clamp(min=1.0)


def top_mask(score: Tensor, fraction: float) -> Tensor:
    """Mask of the ceil(fraction P) largest entries of ``score [P]``; of ties, the first."""
    count = math.ceil(Fraction(str(fraction)) * len(score))
    order = torch.sort(score, descending=True, stable=True).indices
    mask = torch.zeros_like(score, dtype=torch.bool)
    mask[order[:count]] = True
    return mask
