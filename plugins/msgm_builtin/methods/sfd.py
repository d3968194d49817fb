"""SFD: a one-step generator without the forgotten classes, distilled without data."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from msgm_bench import (
    Data,
    Method,
    Model,
    OptionError,
    Options,
    Regime,
    Session,
    half_range,
    hookimpl,
    per_item,
)

LEAST = 1e-5  # omega
PUBLISHED = {
    "finetuning": {
        "steps": 50_000,
        "batch_size": 256,  # 128 items of kept classes and 128 of forgotten ones
        "learning_rate": 1e-5,
        "warmup_steps": 0,
        "lr_schedule": "constant",
        "max_grad_norm": 1e9,  # gradients are clipped by value
        "ema_decay": 0.9999,
        "use_ema_warmup": False,
        "continue_optimizer": False,
        "adam_betas": (0.0, 0.999),
    }
}
QUICK = {
    "finetuning": {
        "steps": 400,
        "learning_rate": 8e-4,
        "warmup_steps": 0,
        "lr_schedule": "cosine",
        "max_grad_norm": 1e9,
        "ema_decay": 0.98,
        "adam_betas": (0.0, 0.999),
    },
    "method": {"forget_weight": 1.0, "forget_fraction": 0.2, "fake_learning_rate": 1.6e-3},
}


class SFDOptions(Options):
    """Generator, distillation, weights."""

    alpha: float = Field(1.2, ge=0, description="alpha of the generator's loss")
    generator_sigma: float = Field(
        2.5, gt=0, description="sigma/a of the generator's noise, halves of the data's range"
    )
    sigma_range: tuple[float, float] = Field(
        (0.138, 13.0), description="sigma/a of the distillation, halves of the data's range"
    )
    safe_class: int | Literal["next", "random"] = Field(
        "next",
        description="kept class that a forgotten one turns into: the next one, random ones "
        "anew in each batch, or a label",
    )
    forget_weight: float = Field(0.01, ge=0, description="w of forgotten classes, kept have 1")
    forget_fraction: float = Field(
        0.5, gt=0, lt=1, description="forgotten classes' part of a batch"
    )
    first_stage_fraction: float = Field(
        0.0, ge=0, lt=1, description="share of the steps in which forgotten classes weigh 0"
    )
    fake_learning_rate: float = Field(1e-5, gt=0, description="psi's learning rate")
    fake_steps: int = Field(1, ge=1, description="psi's steps to one of theta")
    max_grad_value: float = Field(1.0, gt=0, description="largest entry of a gradient, both nets")
    reduction: Literal["sum", "mean"] = Field("sum", description="over an item's dimensions")

    @field_validator("sigma_range")
    @classmethod
    def _ascending(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if not 0 < ends[0] < ends[1]:
            raise ValueError("two positive numbers, the smaller one first")
        return ends


class SFD(Method[SFDOptions]):
    """SFD: distils the base into a one-step generator whose forgotten classes show kept ones.

    Networks: the frozen base phi, a fake score psi that learns the generator's noise, and the
    generator theta, x_g = (x - sigma(t_i) eps_theta(x, t_i, c))/a(t_i) of pure noise x at t_i;
    psi and theta start as phi. No data: labels c are drawn, items are generated.
    psi descends w(c) |eps_psi(x_t, t, c) - eps|^2 on x_t = a x_g + sigma eps.
    theta descends w(c) (x_phi - x_psi) . (x_phi - x_g - alpha (x_phi - x_psi))/omega, with
    x = (x_t - sigma eps)/a of phi at (x_t, t, s) and of psi at (x_t, t, c), and omega the mean of
    |x_phi - x_g| as a constant; gradients pass through both networks. s = c for a kept class; for
    a forgotten one it is the next kept class, a named one (the released runs name class 1), or
    random ones, of which the generator may learn a blend. w = 1 for kept classes,
    ``forget_weight`` for forgotten ones, each a mean over its part of the batch; 0 for these
    in the first stage, if any, of the paper's two-stage variant.
    Adapted: noise levels are sigma/a in halves of the data's range, so that they mean the same
    on every process; t is uniform between the times of the two ends of ``sigma_range``, or of the
    process where it ends before. No dropout. Clipped by value, as in the released code.
    Unconditional models are refused: there is no score of a safe class.
    Outcome: one network evaluation a sample, unguided (sampler ``one_step``); no likelihood.
    Cost: 4 1/3 passes a step; three networks, two of them with Adam.
    """

    name = "sfd"
    citation = "Chen et al. 2024, arXiv:2409.11219; code tqch/score-forgetting-distillation 3771028"
    regimes = ("finetune",)
    needs = frozenset({"base"})
    unsupported_tasks = {
        task: f"sfd leaves a one-step generator, and {why}"
        for task, why in {
            "likelihood": "a generator has no density that could be evaluated",
            "inpainting": "there is no reverse process in which known pixels could be held",
            "reconstruction": "it denoises pure noise, not noised images",
        }.items()
    }
    presets = {"quick": QUICK, "full": PUBLISHED, "paper": PUBLISHED}

    def skip(self, model: Model, regime: Regime) -> str | None:
        """It needs the score of a class that is safe."""
        if model.classes is None:
            return "it moves forgotten classes to the score of kept ones: it needs --conditional"
        self.check_levels(model)
        return None

    def check_levels(self, model: Model) -> None:
        """Some of the noise levels must be the process's.

        Raises:
            OptionError: All of ``sigma_range`` lie beyond one of its ends.
        """
        process = model.process
        ends = torch.tensor([process.t_min, process.T], dtype=torch.float64)
        low, high = (process.noise_to_signal(ends) / half_range(model.codec)).tolist()
        if self.options.sigma_range[0] >= high or self.options.sigma_range[1] <= low:
            given = " to ".join(f"{sigma:g}" for sigma in self.options.sigma_range)
            raise OptionError(f"sfd: sigma_range = {given} on this process", f"{low:g} to {high:g}")

    def check_data(self, data: Data, targets: Sequence[int]) -> None:
        """``safe_class`` must be a class that is kept.

        Raises:
            OptionError: It is forgotten, or not there.
        """
        kept = data.labels(targets)["retain"]
        if isinstance(self.options.safe_class, int) and self.options.safe_class not in kept:
            raise OptionError(
                f"sfd: safe_class = {self.options.safe_class}, which is not kept",
                ", ".join(f"{label} ({data.classes[label]})" for label in kept),
            )

    def required_task_options(self) -> Mapping[str, Mapping[str, Any]]:
        """Samples come from one unguided evaluation at the generator's own noise level."""
        how = {
            "sampler": "one_step",
            "nfe": 1,
            "sampler_options": {"sigma": self.options.generator_sigma},
        }
        return {"class_generation": {**how, "guidance": 0.0}}

    def setup(self, session: Session) -> None:
        """psi and the times of generator and distillation."""
        c, process, half = self.options, session.model.process, half_range(session.model.codec)
        self.phi = session.base
        self.psi = copy.deepcopy(self.phi).requires_grad_(True).eval()
        self.descent = session.adam(
            "fake score", self.psi.network, c.fake_learning_rate, (0.0, 0.999)
        )
        self.t_i = process.nearest_time(half * c.generator_sigma)
        ends = process.t_from_noise_to_signal(
            half * torch.tensor(c.sigma_range, dtype=torch.float64)
        )
        shares = (ends - process.t_min) / (process.T - process.t_min)
        self.low, self.high = shares.clamp(0.0, 1.0).tolist()

    def update(self, session: Session, step: int) -> Tensor:
        """psi follows the generator, then the generator steps."""
        session.model.eval()
        for k in range(self.options.fake_steps):
            loss_fake = self.follow(session, self.drawn(session, step, "psi", k))
        draw = self.drawn(session, step, "theta")
        x_g = generated(session.model, draw.z, self.t_i, draw.c)
        loss = self.reduced(distillation(self.phi, self.psi, x_g, draw, self.options.alpha), draw)
        bound = self.options.max_grad_value
        (gradient,) = session.gradients(loss)
        session.descend(gradient.clamp(-bound, bound))
        self.record(loss_fake=loss_fake)
        return loss.detach()

    def follow(self, session: Session, draw: Draw) -> Tensor:
        """One step of psi towards the generator's noise; returns its loss."""
        with torch.no_grad():
            x_g = generated(session.model, draw.z, self.t_i, draw.c)
        loss = self.reduced(matching(self.psi, x_g, draw), draw)
        self.descent.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(self.psi.parameters(), self.options.max_grad_value)
        self.descent.step()
        return loss.detach()

    def reduced(self, loss: Tensor, draw: Draw) -> Tensor:
        """sum_n w_n loss_n of losses ``[N]`` that are sums over dimensions."""
        total = (draw.w * loss).sum()
        return total if self.options.reduction == "sum" else total / draw.z[0].numel()

    def classes(self, session: Session) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
        """Kept labels, forgotten ones, and the safe one of each forgotten one."""
        kept, forgotten, safe = (
            session.retain_labels,
            session.forget_labels,
            self.options.safe_class,
        )
        if isinstance(safe, int):
            return kept, forgotten, [safe] * len(forgotten)
        K = len(kept) + len(forgotten)
        return kept, forgotten, [min(kept, key=lambda k: (k - gone) % K) for gone in forgotten]

    def drawn(self, session: Session, step: int, *stream: int | str) -> Draw:
        """Labels, weights, times and noise of a batch; the forgotten classes come first."""
        c, N = self.options, session.batch_size
        noise = session.noise(step, *stream, count=N)
        n = min(max(1, round(c.forget_fraction * N)), N - 1)
        u, shape = noise.uniform((3,)), session.model.shape
        kept, forgotten, safe = (torch.tensor(y, device=u.device) for y in self.classes(session))
        gone = pick(len(forgotten), u[:n, 0])
        told = kept[pick(len(kept), u[:n, 1])] if c.safe_class == "random" else safe[gone]
        label = torch.cat([forgotten[gone], kept[pick(len(kept), u[n:, 0])]])
        w = torch.full_like(u[:, 0], 1 / (N - n))
        forgets = step >= c.first_stage_fraction * session.total_steps
        w[:n] = c.forget_weight / max(n, 1) if forgets else 0.0
        t = session.model.process.sample_times(self.low + (self.high - self.low) * u[:, 2])
        s = torch.cat([told, label[n:]])
        return Draw(label, s, w, t, noise.normal(shape), noise.normal(shape))


@dataclass(frozen=True)
class Draw:
    """What is random in a batch of N items.

    Attributes:
        c: Labels ``int64 [N]`` of what is generated.
        s: The classes ``int64 [N]`` that phi is told.
        w: Weights ``[N]``.
        t: Times ``[N]`` of the distillation.
        z: The generator's noise ``[N, *shape]``, of variance 1.
        eps: The distillation's noise ``[N, *shape]``.
    """

    c: Tensor
    s: Tensor
    w: Tensor
    t: Tensor
    z: Tensor
    eps: Tensor


def generated(theta: Model, z: Tensor, t_i: float, c: Tensor) -> Tensor:
    """x_g = (x - sigma eps_theta(x, t_i, c))/a of x = sigma(t_i) z, ``[N, *shape]``."""
    t = torch.full_like(z.flatten(1)[:, 0], t_i)
    _, sigma = theta.process.marginal(t)
    return denoised(theta, per_item(sigma, z) * z, t, c)


def denoised(model: Model, x_t: Tensor, t: Tensor, c: Tensor) -> Tensor:
    """x0_hat = (x_t - sigma eps_hat(x_t, t, c))/a, ``[N, *shape]``."""
    a, sigma = (per_item(v, x_t) for v in model.process.marginal(t))
    return (x_t - sigma * model.eps(x_t, t, c)) / a


def matching(psi: Model, x_g: Tensor, draw: Draw) -> Tensor:
    """|eps_psi(x_t, t, c) - eps|^2 of each item, ``[N]``."""
    x_t = psi.process.perturb(x_g, draw.t, draw.eps)
    return (psi.eps(x_t, draw.t, draw.c) - draw.eps).square().flatten(1).sum(1)


def distillation(phi: Model, psi: Model, x_g: Tensor, draw: Draw, alpha: float) -> Tensor:
    """(x_phi - x_psi) . (x_phi - x_g - alpha (x_phi - x_psi))/omega of each item, ``[N]``."""
    x_t = phi.process.perturb(x_g, draw.t, draw.eps)
    x_phi, x_psi = denoised(phi, x_t, draw.t, draw.s), denoised(psi, x_t, draw.t, draw.c)
    omega = (x_phi - x_g).detach().abs().flatten(1).mean(1).clamp(min=LEAST)
    products = (x_phi - x_psi) * (x_phi - x_g - alpha * (x_phi - x_psi))
    return products.flatten(1).sum(1) / omega


def pick(K: int, u: Tensor) -> Tensor:
    """One of 0 .. K-1 for each ``u [N]`` of U[0, 1), ``int64 [N]``."""
    return (u * K).long().clamp(max=K - 1)


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """SFD."""
    return [SFD]
