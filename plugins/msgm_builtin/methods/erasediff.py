"""EraseDiff: unlearning as a constrained problem, solved to first order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import Batch, Method, Model, Options, Regime, Session, dsm_loss, hookimpl

BUDGET = {
    "steps": 288,  # what the released loops add up to; 640 inner steps are undone
    "batch_size": 128,
    "learning_rate": 1e-4,
    "warmup_steps": 0,
    "lr_schedule": "constant",
    "max_grad_norm": 1.0,
    "ema_decay": 0.99,
    "continue_optimizer": False,
}
RELEASED = {
    # 8 times: 2 epochs of D_f with Adam's moments left behind, then 36 batches of the retain set
    "finetuning": BUDGET | {"ema_warmup": False, "clip": 1e9},  # outer_max_grad_norm clips
    "method": {
        "inner_epochs": 2,
        "inner_interval": 36,
        "adam_moments": "shared",
        "outer_max_grad_norm": 1.0,
        "label_dropout_split": "forget",
    },
}


class EraseDiffOptions(Options):
    """Target, multiplier, inner loop."""

    target: Literal["auto", "relabel", "uniform", "gaussian"] = Field(
        "auto",
        description="eps_f: eps_hat of another class, U[0, 1) or N(0, I); "
        "auto: relabel where the model is told classes, else uniform",
    )
    noise_in_input: bool = Field(
        False, description="eps_f takes the place of the noise in x_t, too: the released code"
    )
    lambda_rule: Literal["fixed", "cosine"] = Field(
        "fixed", description="lambda: the number ``forget_weight``, or max(0, eta - cosine)"
    )
    forget_weight: float = Field(0.1, ge=0, description="lambda of the fixed rule")
    eta: float = Field(0.1, ge=0, le=2, description="eta of the cosine rule")
    inner_steps: int = Field(2, ge=0, description="K, descent steps on L_f that are undone")
    inner_epochs: int | None = Field(
        None, ge=1, description="K in epochs of D_f, in the place of inner_steps"
    )
    inner_interval: int = Field(1, ge=1, description="outer steps from one inner loop to the next")
    adam_moments: Literal["own", "shared"] = Field(
        "own", description="shared: inner steps move Adam's moments, as in the released code"
    )
    outer_max_grad_norm: float | None = Field(
        None, gt=0, description="largest norm of the outer gradient, beside the budget's clip"
    )
    label_dropout_split: Literal["retain", "forget"] = Field(
        "retain",
        description="split whose labels give way to the null class; forget: the released code",
    )


class EraseDiff(Method[EraseDiffOptions]):
    """EraseDiff: D_g is learned under the constraint that D_f is denoised to something else.

    Objective: min L_r subject to q = L_f(theta) - L_f(theta^K) <= 0, where L_r is denoising score
    matching on D_g, L_f = |eps_hat(x_t, t[, c_f]) - eps_f|^2/D on D_f, and theta^K is K descent
    steps on L_f away. Update: grad L_r + lambda grad q through Adam, with lambda fixed or
    max(0, eta - cos(grad L_r, grad q)).
    Target eps_f: relabel is sg eps_hat(x_t, t, c'), what the current weights say of another class
    c', one draw a batch among the classes of D_g (the released code takes class 0 for the
    forgotten one, and the rest for c'), so that its mean is a blend of them; uniform and gaussian
    are a noise that says nothing of x_t.
    K: L_f(theta^K) is a constant of the update, so grad q = grad L_f, and the inner loop decides
    nothing but the q in the log. In the released code both loops share Adam's moments, which
    gives L_f more weight (adam_moments=shared); its inner loop is epochs of D_f
    (``inner_epochs``), and
    only the outer gradient is clipped (``outer_max_grad_norm``, below a budget that clips nothing).
    Labels: those of D_g give way to the null class as in other trainings, or those of D_f alone,
    as in the released code (label_dropout_split=forget).
    Adapted: the paper's models are conditional, and relabel is its loss. On an unconditional model
    eps_f is drawn independently of the Gaussian noise in x_t; the released code's label-free loss
    puts U[0, 1) into x_t as well, off the process's path: noise_in_input=true.
    Cost: two passes a step, and a forward one for relabel; for the inner loop K passes (with a
    forward one each for relabel) and a forward one at every ``inner_interval``-th. A copy of the
    weights and of Adam's moments.
    """

    name = "erasediff"
    citation = "Wu et al. 2024, arXiv:2401.05779; code JingWu321/EraseDiff 14f4e98, ddpm/"
    regimes = ("finetune", "retrain")
    needs = frozenset({"retain", "forget"})
    presets = {
        # the same weights for half the passes; lambda chosen on digits
        "quick": {"method": {"inner_interval": 50, "forget_weight": 0.03}},
        "standard": {"finetuning": BUDGET},
        "paper": RELEASED,
    }

    def skip(self, model: Model, regime: Regime) -> str | None:
        """Relabelling needs classes, and has no noise to put into x_t."""
        relabels = self.target(model) == "relabel"
        if relabels and model.classes is None:
            return "target=relabel: only for models that are told classes (--conditional)"
        if relabels and self.options.noise_in_input:
            return "noise_in_input=true: only with a noise for a target (target=uniform)"
        if self.options.noise_in_input and self.target(model) == "gaussian":
            return (
                "noise_in_input=true with target=gaussian: to predict the Gaussian noise in x_t "
                "is how D_f is learned (target=uniform)"
            )
        return None

    def target(self, model: Model) -> str:
        """The option of that name, settled for this model."""
        if self.options.target != "auto":
            return self.options.target
        return "uniform" if model.classes is None else "relabel"

    def update(self, session: Session, step: int) -> Tensor:
        """Descend grad L_r + lambda grad q."""
        c, model = self.options, session.model
        retain = session.batch("retain", step)
        if model.classes is not None and c.label_dropout_split == "forget":
            retain = replace(retain, condition=retain.y)
        forget, eps_f = self.aimed(session, step, "outer")
        least = None
        if self.count_inner_steps(session) and step % c.inner_interval == 0:
            least = self.reachable(session, step, forget, eps_f)
        L_r, L_f = dsm_loss(model, retain), forget_loss(model, forget, eps_f)
        g_r, g_q = session.gradients(L_r, L_f)
        weight = self.multiplier(g_r, g_q)
        session.descend(clipped(g_r + weight * g_q, c.outer_max_grad_norm))
        self.record(loss_retain=L_r, loss_forget=L_f, multiplier=weight)
        if least is not None:
            self.record(q=L_f - least)
        return (L_r + weight * L_f).detach()

    def aimed(self, session: Session, step: int, draw: str) -> tuple[Batch, Tensor]:
        """A batch of D_f, and what ``[N, *shape]`` is to be predicted for it."""
        batch, model = session.batch("forget", step, draw), session.model
        noise = session.noise("target", draw, step, count=len(batch.t))
        target, shape = self.target(model), tuple(batch.eps.shape[1:])
        if model.classes is not None and self.options.label_dropout_split == "retain":
            batch = replace(batch, condition=batch.y)
        if target == "relabel":
            other = other_class(session, step, draw)
            with torch.no_grad():
                eps_f = model.eps(batch.x_t, batch.t, torch.full_like(batch.y, other))
            return batch, eps_f
        eps_f = noise.uniform(shape) if target == "uniform" else noise.normal(shape)
        if self.options.noise_in_input:
            x_t = model.process.perturb(batch.x0, batch.t, eps_f)
            batch = replace(batch, eps=eps_f, x_t=x_t)
        return batch, eps_f

    def reachable(self, session: Session, step: int, forget: Batch, eps_f: Tensor) -> Tensor:
        """L_f(theta^K) on the outer batch; the weights are where they were afterwards."""
        K = self.count_inner_steps(session)
        with session.inner_loop(keep_moments=self.options.adam_moments == "shared"):
            for k in range(K):
                batch, target = self.aimed(session, K * step + k, "inner")
                session.minimise(forget_loss(session.model, batch, target))
            with torch.no_grad():
                return forget_loss(session.model, forget, eps_f)

    def count_inner_steps(self, session: Session) -> int:
        """K: the option, or the batches of so many epochs of D_f."""
        c = self.options
        if c.inner_epochs is None:
            return c.inner_steps
        return c.inner_epochs * math.ceil(len(session.items("forget")) / session.batch_size)

    def multiplier(self, g_r: Tensor, g_q: Tensor) -> Tensor:
        """lambda, a scalar."""
        if self.options.lambda_rule == "fixed":
            return torch.as_tensor(self.options.forget_weight, device=g_r.device)
        cosine = torch.cosine_similarity(g_r, g_q, dim=0)
        return (self.options.eta - cosine).clamp(min=0.0)


def clipped(gradient: Tensor, norm: float | None) -> Tensor:
    """``gradient [P]``, or its direction with this norm where it is longer."""
    return gradient if norm is None else gradient * (norm / gradient.norm()).clamp(max=1.0)


def other_class(session: Session, step: int, draw: str) -> int:
    """c', uniform among the classes of D_g."""
    u = session.noise("class", draw, step, count=1).uniform(())
    return session.retain_labels[int(u * len(session.retain_labels))]


def forget_loss(model: Model, batch: Batch, eps_f: Tensor) -> Tensor:
    """L_f = E |eps_hat(x_t, t[, c_f]) - eps_f|^2 / D."""
    return (model.eps(batch.x_t, batch.t, batch.condition) - eps_f).square().mean()


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """EraseDiff."""
    return [EraseDiff]
