"""SalUn: only the weights that matter to the forgotten data may move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from msgm_bench import (
    Batch,
    Conditioned,
    Method,
    Model,
    Options,
    Regime,
    Session,
    dsm_loss,
    hookimpl,
    per_item,
)

RELEASED = {
    "finetuning": {
        "steps": 1000,
        "batch_size": 128,
        "learning_rate": 1e-4,
        "warmup_steps": 0,
        "lr_schedule": "constant",
        "max_grad_norm": 1.0,
        "ema_decay": 0.0,
        "continue_optimizer": False,
    },
    "method": {"alpha": 1e-3, "retain_reduction": "sum"},
}
QUICK = {  # the mask of unguided outputs and means over D, labels as they are
    "finetuning": {"ema_decay": 0.0},
    "method": {"mask_guidance": 0.0, "mask_reduction": "mean", "label_dropout": False},
}
GUIDANCE = 2.0  # of the released mask

Target = Literal["auto", "next_class", "random_class", "random_image", "noise", "ascent"]
RELABELS = ("next_class", "random_class")


class SalUnOptions(Options):
    """Mask, target, weight."""

    mask_fraction: float = Field(
        0.5, gt=0, le=1, description="share of the weights that may move; 1: no mask"
    )
    target: Target = Field(
        "auto",
        description="where x_t of D_f is to lead; "
        "auto: next_class where the model is told classes, else random_image",
    )
    alpha: float = Field(3.07, ge=0, description="weight of L_r")
    retain_reduction: Literal["mean", "sum"] = Field(
        "mean", description="L_r over D; sum is the released code's, with alpha = 1e-3"
    )
    target_clip_value: float = Field(3.0, gt=0, description="largest entry of eps' of random_image")
    mask_reduction: Literal["sum", "mean"] = Field(
        "sum", description="over D, of the loss whose gradient is clipped for the mask"
    )
    mask_guidance: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        "auto",
        description="w of the guided outputs that the mask is of; "
        "auto: 2 where the model is told classes, else 0",
    )
    label_dropout: bool | Literal["auto"] = Field(
        "auto",
        description="whether c_f and c' give way to the null class, each by itself, as often "
        "as the labels of D_g do; auto: where the model is told classes",
    )


class SalUn(Method[SalUnOptions]):
    """SalUn: D_f is denoised to something else by the weights that are salient to it.

    Mask: m = 1 for the top ``mask_fraction`` of all weights by |G|, G the sum over one pass through
    D_f of the gradients of denoising score matching, each clipped to norm 1. As released, the
    loss is summed over D before the clip, so that every batch has the same weight; and it is of
    guided outputs, (1 + w) eps_c - w eps_null with w = 2, where the model is told classes.
    Objective: |eps_hat(x_t, t[, c_f]) - eps'|^2/D on D_f + alpha L_r, on the weights with m = 1;
    the gradient is clipped, then masked, then Adam's. Target eps':
    next_class sg eps_hat(x_t, t, c') of the current weights, with c' the next class after c_f, past
    the last one the first: the released (c_f + 1) mod K, but never a forgotten class;
    random_class the same with c' drawn for each item among the classes of D_g, which in the mean
    is a blend of them all;
    random_image (x_t - a x_g)/sigma, the noise that would lead from x_t to a random image x_g of
    D_g, cut off at ``target_clip_value``; noise N(0, I), independent of x_t; ascent: none,
    -L_DSM(D_f) is
    added instead (not bounded).
    The null class takes the place of c_f and of c' now and then, each by itself, as released
    (label_dropout).
    Adapted: the paper relabels a conditional model; random_image is the label-free counterpart
    for others. Training goes on from the averaged weights of the base, not from the raw ones.
    alpha: the released code adds 1e-3 times the *sum* over D, which is 3.07 times the mean on
    CIFAR-10 (D = 3072) and 12.3 at 64 px; retain_reduction=sum is that convention.
    Cost: two passes a step, and a forward one for another class; one pass through D_f before the
    first step (two with mask_guidance); P numbers and P bits.
    """

    name = "salun"
    citation = "Fan et al. 2024, arXiv:2310.12508; code OPTML-Group/Unlearn-Saliency a6e89fd, DDPM/"
    regimes = ("finetune",)
    needs = frozenset({"retain", "forget"})
    presets = {
        "quick": QUICK,
        "full": RELEASED,
        "paper": RELEASED,
    }

    def skip(self, model: Model, regime: Regime) -> str | None:
        """Other classes, guidance and the null class need a model that is told classes."""
        c = self.options
        asked = {
            f"target={c.target}": c.target in RELABELS,
            f"mask_guidance={c.mask_guidance}": c.mask_guidance not in ("auto", 0.0),
            "label_dropout=true": c.label_dropout is True,
        }
        needing = ", ".join(option for option, needs in asked.items() if needs)
        if model.classes is None and needing:
            return f"{needing}: only for models that are told classes (--conditional)"
        return None

    def target(self, model: Model) -> str:
        """The option of that name, settled for this model."""
        if self.options.target != "auto":
            return self.options.target
        return "random_image" if model.classes is None else "next_class"

    def guidance(self) -> float:
        """w of the mask, for a model that is told classes."""
        given = self.options.mask_guidance
        return GUIDANCE if given == "auto" else float(given)

    def setup(self, session: Session) -> None:
        """Room for the mask."""
        self.saliency = Saliency(session)
        session.register_state("saliency", self.saliency)

    def num_preparation_steps(self, session: Session) -> int:
        """Batches of one pass through D_f."""
        return math.ceil(len(session.items("forget")) / session.batch_size)

    def preparation_step(self, session: Session, i: int) -> None:
        """Add the clipped gradient of one batch; after the last, rank."""
        first = i * session.batch_size
        items = session.items("forget")[slice(first, first + session.batch_size)]
        batch = session.noised(items, i, "saliency")
        seen = session.model
        if seen.classes is not None:
            seen = Conditioned(seen, batch.y, self.guidance())
        loss = dsm_loss(seen, replace(batch, condition=None))
        D = session.model.dim if self.options.mask_reduction == "sum" else 1
        (gradient,) = session.gradients(D * loss)
        self.saliency.total += clipped(gradient)
        if i + 1 == self.num_preparation_steps(session):
            self.saliency.mask.copy_(top(self.saliency.total.abs(), self.options.mask_fraction))

    def update(self, session: Session, step: int) -> Tensor:
        """Descend on the salient weights."""
        c, model = self.options, session.model
        retain, forget = session.batch("retain", step), session.batch("forget", step)
        L_r = dsm_loss(model, retain)
        L_f = self.forget_loss(session, forget, retain, step)
        alpha = c.alpha * (model.dim if c.retain_reduction == "sum" else 1)
        loss = L_f + alpha * L_r
        session.minimise(loss, mask=self.saliency.mask)
        self.record(loss_retain=L_r, loss_forget=L_f)
        return loss.detach()

    def forget_loss(self, session: Session, forget: Batch, retain: Batch, step: int) -> Tensor:
        """E |eps_hat(x_t, t[, c_f]) - eps'|^2 / D, or -L_DSM(D_f)."""
        c, model = self.options, session.model
        target, condition = self.target(model), forget.condition
        if target in RELABELS and not c.label_dropout:
            condition = forget.y
        eps_hat = model.eps(forget.x_t, forget.t, condition)
        if target == "ascent":
            return -(eps_hat - forget.eps).square().mean()
        return (eps_hat - self.elsewhere(session, forget, retain, step)).square().mean()

    def elsewhere(self, session: Session, forget: Batch, retain: Batch, step: int) -> Tensor:
        """eps' ``[N, *shape]``."""
        model = session.model
        target = self.target(model)
        if target in RELABELS:
            with torch.no_grad():
                return model.eps(forget.x_t, forget.t, self.other_classes(session, forget, step))
        if target == "noise":
            return session.batch("forget", step, "target").eps
        a, sigma = model.process.marginal(forget.t)
        x_t, x_g = forget.x_t, retain.x0
        eps = (x_t - per_item(a, x_g) * x_g) / per_item(sigma, x_g)
        return eps.clamp(-self.options.target_clip_value, self.options.target_clip_value)

    def other_classes(self, session: Session, forget: Batch, step: int) -> Tensor:
        """c' ``int64 [N]``, classes of D_g, or the null class by ``label_dropout``."""
        kept = torch.tensor(session.retain_labels, device=forget.y.device)
        K = session.model.null(len(forget.y), forget.y.device)
        if self.target(session.model) == "next_class":
            other = kept[((kept - forget.y[:, None] - 1) % K[:, None]).argmin(dim=1)]
        else:
            u = session.noise("class", step, count=len(forget.y)).uniform(())
            other = kept[(u * len(kept)).long()]
        if self.options.label_dropout:
            condition = session.batch("forget", step, "class").condition
            other = other if condition is None else torch.where(condition == K, K, other)
        return other


class Saliency(nn.Module):
    """The sum of gradients G ``[P]`` and the mask ``bool [P]``, kept in checkpoints."""

    total: Tensor
    mask: Tensor

    def __init__(self, session: Session) -> None:
        super().__init__()
        weights = [p.detach() for p in session.model.parameters() if p.requires_grad]
        flat = torch.cat([torch.zeros_like(weight).reshape(-1) for weight in weights])
        self.register_buffer("total", flat.float())
        self.register_buffer("mask", torch.zeros_like(flat, dtype=torch.bool))


def clipped(gradient: Tensor) -> Tensor:
    """``gradient``, or its direction with norm 1 where it is longer."""
    norm: Tensor = gradient.norm()
    return gradient / norm.clamp(min=1.0)


def top(score: Tensor, fraction: float) -> Tensor:
    """Mask of the ceil(fraction P) largest entries of ``score [P]``; ties go to the first."""
    count = math.ceil(Fraction(str(fraction)) * len(score))
    order = torch.sort(score, descending=True, stable=True).indices
    mask = torch.zeros_like(score, dtype=torch.bool)
    mask[order[:count]] = True
    return mask


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """SalUn."""
    return [SalUn]
