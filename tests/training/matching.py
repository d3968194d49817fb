"""The simplest method there is."""

from __future__ import annotations

from msgm_bench import LossMethod, noise_matching


class Match(LossMethod):
    """Denoising score matching on D_g."""

    name = "match"
    needs = frozenset({"retain"})

    def loss(self, model, retain, forget, step):
        """The loss."""
        return noise_matching(model, retain)
