"""The simplest method there is."""

from __future__ import annotations

from msgm_bench import LossMethod, dsm_loss


class Match(LossMethod):
    """Denoising score matching on D_g."""

    name = "match"
    needs = frozenset({"retain"})

    def loss(self, model, batches, step):
        """The loss."""
        return dsm_loss(model, batches.retain)
