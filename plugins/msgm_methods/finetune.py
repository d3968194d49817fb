"""Fine-tuning on the kept data: the control that every unlearning method needs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from msgm_bench import Batches, LossMethod, Method, Model, dsm_loss, hookimpl


class Finetune(LossMethod):
    """The base model trained on with D_g alone: forgetting by neglect.

    Objective: E ||eps_hat(x_t, t) - eps||^2 / D over x0 in D_g, from the base's weights.
    Cost: one pass a step.
    """

    name = "finetune"
    citation = "MSGM, arXiv:2412.07229, section 3.2 (Erasing by Fine-tuning)"
    regimes = ("finetune",)
    needs = frozenset({"retain"})

    def loss(self, model: Model, batches: Batches, step: int) -> Tensor:
        """Denoising score matching on D_g."""
        return dsm_loss(model, batches.retain)


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """Finetune."""
    return [Finetune]
