"""Standard training on all of D: the model that has forgotten nothing."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from msgm_bench import Batches, LossMethod, Method, Model, dsm_loss, hookimpl


class Standard(LossMethod):
    """Trained on all of D: the base model, and the row that shows what there is to forget.

    Objective: E ||eps_hat(x_t, t) - eps||^2 / D over x0 in D.
    Cost: one pass a step.
    """

    name = "standard"
    citation = "Song et al. 2021, arXiv:2011.13456, equation 7"
    needs = frozenset({"all"})
    baseline = True
    trains_base = True

    def loss(self, model: Model, batches: Batches, step: int) -> Tensor:
        """Denoising score matching on D."""
        return dsm_loss(model, batches.all)


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """Standard."""
    return [Standard]
