"""The reference rows of every comparison: standard, unseen and finetune."""

from __future__ import annotations

from torch import Tensor

from msgm_bench import (
    Batches,
    LossMethod,
    Method,
    Model,
    Multiples,
    WeightsOptions,
    dsm_loss,
    hookimpl,
)


class Standard(LossMethod):
    """Trained on all of D: the base model, and the row that shows what there is to forget.

    L = E |eps_hat(x_t, t) - eps|^2 / D    over x0 in D

    Cost: one pass a step.
    """

    name = "standard"
    citation = "Song et al. 2021, arXiv:2011.13456, equation 7"
    needs = frozenset({"all"})
    baseline = True
    trains_base = True

    def loss(self, model: Model, batches: Batches, step: int) -> Tensor:
        """L on D."""
        return dsm_loss(model, batches.all)

    def step_kind(self, step: int) -> str:
        """All steps are alike."""
        return self.name


class Unseen(LossMethod):
    """Trained from scratch on D_g, which is D without D_f: a baseline, not an oracle.

    L = E |eps_hat(x_t, t) - eps|^2 / D    over x0 in D_g

    Equation 9 with alpha = 1. Cost: one pass a step.
    """

    name = "unseen"
    citation = "MSGM, arXiv:2412.07229, equations 4 and 5"
    needs = frozenset({"retain"})
    baseline = True
    is_control = True

    def loss(self, model: Model, batches: Batches, step: int) -> Tensor:
        """L on D_g."""
        return dsm_loss(model, batches.retain)

    def step_kind(self, step: int) -> str:
        """All steps are alike."""
        return self.name


class Finetune(LossMethod[WeightsOptions]):
    """The base model trained on with D_g alone: forgetting by neglect.

    L = E |eps_hat(x_t, t) - eps|^2 / D    over x0 in D_g, from the base's weights

    Cost: one pass a step.
    """

    name = "finetune"
    citation = "MSGM, arXiv:2412.07229, section 3.2 (Erasing by Fine-tuning)"
    regimes = ("finetune",)
    needs = frozenset({"retain"})
    search_space = {"training.learning_rate": Multiples(0.1, 10.0)}

    def loss(self, model: Model, batches: Batches, step: int) -> Tensor:
        """L on D_g."""
        return dsm_loss(model, batches.retain)

    def step_kind(self, step: int) -> str:
        """All steps are alike."""
        return self.name


@hookimpl
def register_methods() -> list[type[Method]]:
    """Standard, Unseen, Finetune."""
    return [Standard, Unseen, Finetune]
