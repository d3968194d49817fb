"""The moderated score-based generative model: Orthogonal and Obtuse MSGM, and its baseline.

alpha L_g at every step, (1 - alpha) L_f at every ``forget_interval``-th, one Adam state for both
(the released code's alternative updating). Both are means over the D dimensions, so alpha means the
same at every resolution. The population optima are in docs/mathematics.md, 3; tests hold trained
networks against them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from msgm_bench import (
    Batches,
    DivergenceError,
    LossMethod,
    Method,
    Model,
    Options,
    Session,
    dsm_loss,
    hookimpl,
)

QUICK = {"quick": {"method": {"alpha": 0.75}}}


class MSGMOptions(Options):
    """Options of both variants."""

    alpha: float = Field(0.99, gt=0, le=1, description="weight of L_g; 1 is unseen")
    forget_interval: int = Field(4, ge=1, description="L_f enters at every so many steps")
    abort_norm: float = Field(
        1e4, gt=0, description="stop when |eps_hat|^2/D on D_f exceeds this; it is near 1 in health"
    )


MSGMOptionsT = TypeVar("MSGMOptionsT", bound=MSGMOptions, default=MSGMOptions, covariant=True)


class MSGM(LossMethod[MSGMOptionsT]):
    """L = alpha L_g + (1 - alpha) L_f (equation 9); a subclass says what L_f is."""

    citation = "MSGM, arXiv:2412.07229"
    regimes = ("retrain", "finetune")
    needs = frozenset({"retain", "forget"})
    presets = QUICK

    def loss(self, model: Model, batches: Batches, step: int) -> Tensor:
        """alpha L_g, and (1 - alpha) L_f where its turn has come."""
        alpha, forget = self.options.alpha, batches.forget
        L_g = dsm_loss(model, batches.retain)
        if step % self.options.forget_interval:
            return alpha * L_g
        eps_hat = model.eps(forget.x_t, forget.t, forget.condition)
        L_f = self.forget_loss(eps_hat, forget.eps)
        norm, cosine = alignment(eps_hat, forget.eps)
        self.record(loss_retain=L_g, loss_forget=L_f, norm_forget=norm, cosine_forget=cosine)
        return alpha * L_g + (1 - alpha) * L_f

    @abstractmethod
    def forget_loss(self, eps_hat: Tensor, eps: Tensor) -> Tensor:
        """L_f of predictions and noise ``[N, *shape]`` on D_f."""

    def check(self, recorded: Mapping[str, float]) -> None:
        """Stop a score that explodes on D_f."""
        norm = recorded.get("norm_forget", 0.0)
        if norm > self.options.abort_norm:
            raise DivergenceError(
                f"|eps_hat|^2/D on the forget data reached {norm:.3g}",
                f"at most abort_norm = {self.options.abort_norm:g}",
                "raise alpha, or use a stabiliser (hinge, max_error, norm_weight)",
            )


class OrthogonalOptions(MSGMOptions):
    """MSGM's options and the product."""

    product: Literal["inner", "elementwise"] = Field(
        "inner", description="inner: equation 7; elementwise: the released code"
    )


class Orthogonal(MSGM[OrthogonalOptions]):
    """MSGM-Orthogonal: the score on D_f is made orthogonal to the kernel's score.

    Objective: alpha |eps_hat - eps|^2/D on D_g + (1 - alpha) L_f on D_f, with
    L_f = (eps_hat . eps / D)^2 (equation 7, lambda = sigma^4) or, with product=elementwise as
    in the released code, mean_i (eps_hat_i eps_i)^2. Its optimum damps the score to zero on D_f.
    Cost: one pass on D_g a step, one more on D_f at every fourth.
    """

    name = "ort"

    def forget_loss(self, eps_hat: Tensor, eps: Tensor) -> Tensor:
        """(eps_hat . eps / D)^2, or mean_i (eps_hat_i eps_i)^2."""
        product = (eps_hat * eps).flatten(1)
        if self.options.product == "elementwise":
            return product.square().mean()
        return product.mean(dim=1).square().mean()


class ObtuseOptions(MSGMOptions):
    """MSGM's options, the sign and the stabilisers."""

    sign: Literal["paper", "released"] = Field(
        "paper", description="paper: equation 8; released: the code's opposite sign"
    )
    use_cosine: bool = Field(False, description="use the cosine of eps_hat and eps instead")
    hinge: float | None = Field(
        None, gt=0, description="stop pushing an item whose eps_hat.eps/D is below minus this"
    )
    max_error: float | None = Field(
        None, gt=0, description="stop pushing an item whose |eps_hat - eps|^2/D is above this"
    )
    norm_weight: float = Field(
        0.0, ge=0, description="weight of |eps_hat|^2/D on D_f; 0.5 mirrors the score of D_f"
    )


class Obtuse(MSGM[ObtuseOptions]):
    """MSGM-Obtuse: the score on D_f is turned to an obtuse angle with the kernel's score.

    Objective: alpha |eps_hat - eps|^2/D on D_g + (1 - alpha) eps_hat . eps / D on D_f
    (equation 8, lambda = sigma^2). Where p_g vanishes it is not bounded below; ``hinge``,
    ``max_error`` and ``norm_weight`` bound it. sign=released descends the opposite sign, as the
    published code does.
    Cost: one pass on D_g a step, one more on D_f at every fourth.
    """

    name = "obt"

    def forget_loss(self, eps_hat: Tensor, eps: Tensor) -> Tensor:
        """eps_hat . eps / D with its stabilisers."""
        c = self.options
        inner = (eps_hat * eps).flatten(1).mean(dim=1)
        if c.use_cosine:
            inner = torch.cosine_similarity(eps_hat.flatten(1), eps.flatten(1), dim=1)
        if c.sign == "released":
            inner = -inner
        if c.hinge is not None:
            inner = inner.clamp(min=-c.hinge)
        if c.max_error is not None:
            gap = (eps_hat - eps).detach().square().flatten(1).mean(dim=1)
            inner = torch.where(gap < c.max_error, inner, inner.detach())
        loss = inner.mean()
        return loss + c.norm_weight * eps_hat.square().mean() if c.norm_weight else loss


class Erase(MSGM):
    """The EraseDiff of MSGM's tables: on D_f eps_hat is drawn towards uniform noise.

    Objective: alpha |eps_hat - eps|^2/D on D_g + (1 - alpha) |eps_hat - u|^2/D on D_f, u ~ U[0, 1)
    independent of x_t: a weighted sum with MSGM's alpha, schedule and budgets (``--task erase`` of
    its released code), without EraseDiff's constraint, inner loop and classes. The method of the
    EraseDiff paper is ``erasediff``, whose L_f has 39.6 times the weight.
    Cost: one pass on D_g a step, one more on D_f at every fourth.
    """

    name = "erase"
    citation = "MSGM, arXiv:2412.07229, section 4.1 (EraseDiff); yunfengdiao/Moderated-... d48987f"

    def update(self, session: Session, step: int) -> Tensor:
        """Draw u ``[N, *shape]``, then as all of MSGM's."""
        noise = session.noise("target", step, count=session.batch_size)
        self.target = noise.uniform(session.model.shape)
        return super().update(session, step)

    def forget_loss(self, eps_hat: Tensor, eps: Tensor) -> Tensor:
        """|eps_hat - u|^2 / D."""
        return (eps_hat - self.target).square().mean()


def alignment(eps_hat: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """|eps_hat|^2/D and cos(eps_hat, eps), means over the batch."""
    cosine = torch.cosine_similarity(eps_hat.flatten(1), eps.flatten(1), dim=1)
    return eps_hat.square().mean(), cosine.mean()


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """Orthogonal, Obtuse and the EraseDiff of their tables."""
    return [Orthogonal, Obtuse, Erase]
