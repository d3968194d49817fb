"""MSGM's loss, alpha L_g + (1 - alpha) L_f, whatever L_f is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from msgm_bench import (
    Batches,
    DivergenceError,
    LossMethod,
    Model,
    Multiples,
    OneOf,
    WeightsOptions,
    dsm_loss,
)


class MSGMOptions(WeightsOptions):
    """Options of every MSGM."""

    alpha: float = Field(0.99, gt=0, le=1, description="weight of L_g; 1 is unseen")
    forget_interval: int = Field(4, ge=1, description="steps from one L_f to the next")
    abort_norm: float = Field(
        1e4, gt=0, description="stop when |eps_hat|^2/D on D_f exceeds this; it is near 1 in health"
    )


MSGMOptionsT = TypeVar("MSGMOptionsT", bound=MSGMOptions, default=MSGMOptions, covariant=True)


class MSGM(LossMethod[MSGMOptionsT]):
    """The moderated score-based generative model (equation 9).

    L = alpha L_g                          at every step,
    L = alpha L_g + (1 - alpha) L_f        at every ``forget_interval``-th,
    with L_g = E |eps_hat(x_t, t) - eps|^2 / D over x0 in D_g; a subclass defines L_f.
    """

    citation = "MSGM, arXiv:2412.07229"
    regimes = ("retrain", "finetune")
    needs = frozenset({"retain", "forget"})
    presets = {"quick": {"method": {"alpha": 0.75}}}
    search_space = {
        "alpha": OneOf((0.5, 0.6, 0.75, 0.85, 0.9, 0.95, 0.98, 0.99)),
        "forget_interval": OneOf((1, 2, 4, 8)),
        "training.learning_rate": Multiples(0.1, 10.0),
    }

    def loss(self, model: Model, batches: Batches, step: int) -> Tensor:
        """L of the step."""
        alpha, forget = self.options.alpha, batches.forget
        L_g = dsm_loss(model, batches.retain)
        if not self.has_forget_loss(step):
            return alpha * L_g
        eps_hat = model.eps(forget.x_t, forget.t, forget.condition)
        L_f = self.forget_loss(eps_hat, self.target(batches))
        norm, cosine = norm_and_cosine(eps_hat, forget.eps)
        self.record(loss_retain=L_g, loss_forget=L_f, norm_forget=norm, cosine_forget=cosine)
        return alpha * L_g + (1 - alpha) * L_f

    def step_kind(self, step: int) -> bool:
        """Steps with L_f, and steps without."""
        return self.has_forget_loss(step)

    def has_forget_loss(self, step: int) -> bool:
        """Whether L_f is a part of L at ``step``."""
        return step % self.options.forget_interval == 0

    def target(self, batches: Batches) -> Tensor:
        """What L_f compares eps_hat with, ``[N, *shape]``."""
        return batches.forget.eps

    @abstractmethod
    def forget_loss(self, eps_hat: Tensor, eps: Tensor) -> Tensor:
        """L_f of predictions and ``target``, ``[N, *shape]`` on D_f, a scalar."""

    def check(self, recorded: Mapping[str, float]) -> None:
        """Stop a score that explodes on D_f.

        Raises:
            DivergenceError: |eps_hat|^2/D on D_f exceeds ``abort_norm``.
        """
        norm = recorded.get("norm_forget", 0.0)
        if norm > self.options.abort_norm:
            raise DivergenceError(
                f"|eps_hat|^2/D on the forget data reached {norm:.3g}",
                f"at most abort_norm = {self.options.abort_norm:g}",
                "raise alpha, or use a stabiliser (hinge, max_error, norm_weight)",
            )


def norm_and_cosine(eps_hat: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """|eps_hat|^2/D and cos(eps_hat, eps), means over the batch."""
    cosine = torch.cosine_similarity(eps_hat.flatten(1), eps.flatten(1), dim=1)
    return eps_hat.square().mean(), cosine.mean()
