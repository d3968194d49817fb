"""Retraining without the forgotten data: the gold standard of unlearning."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from msgm_bench import Batches, LossMethod, Method, Model, dsm_loss, hookimpl


class Unseen(LossMethod):
    """Trained from scratch on D_g, D without D_f: a baseline with a row, not an oracle.

    Objective: E ||eps_hat(x_t, t) - eps||^2 / D over x0 in D_g (alpha = 1 in equation 9).
    Cost: one pass a step.
    """

    name = "unseen"
    citation = "MSGM, arXiv:2412.07229, equations 4 and 5"
    needs = frozenset({"retain"})
    baseline = True

    def loss(self, model: Model, batches: Batches, step: int) -> Tensor:
        """Denoising score matching on D_g."""
        return dsm_loss(model, batches.retain)


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """Unseen."""
    return [Unseen]
