"""Selective Amnesia: continual learning turned round, with generated data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from msgm_bench import (
    Batch,
    Examples,
    Method,
    Model,
    Options,
    Regime,
    Session,
    dsm_loss,
    hookimpl,
)
from msgm_builtin.methods.generated_data import Generated, picked

TIMESTEPS = 1000  # of the sum in F
BUDGET = {
    "steps": 20_000,
    "batch_size": 128,
    "learning_rate": 1e-4,
    "warmup_steps": 0,
    "lr_schedule": "constant",
    "ema_decay": 0.9999,
    "continue_optimizer": False,
}
RELEASED = {
    "finetuning": BUDGET | {"use_ema_warmup": False},
    "method": {"sampler": "ancestral", "nfe": 1000, "guidance": 2.0, "label_dropout": False},
}


class SelectiveAmnesiaOptions(Options):
    """Weights and generated items."""

    gamma: float = Field(1.0, ge=0, description="weight of the kept classes")
    ewc_weight: float = Field(10.0, ge=0, description="lambda, weight of the distance to the base")
    samples_per_class: int = Field(500, ge=1, description="items that the base draws of each class")
    fisher_timesteps: int = Field(1000, ge=1, description="times at which F looks at an item")
    sampler: Literal["heun", "ancestral"] = Field(
        "heun", description="how the base draws: the ODE, or the reverse chain as released"
    )
    nfe: int = Field(99, ge=1, description="most network evaluations of a drawn item")
    guidance: float = Field(
        0.0,
        ge=0,
        description="w of (1 + w) eps_c - w eps_null when the base of classes draws",
    )
    label_dropout: bool = Field(
        True, description="whether classes of replayed items give way to the null class"
    )


class SelectiveAmnesia(Method[SelectiveAmnesiaOptions]):
    """Selective Amnesia: D_f's classes become uniform noise, and what matters to the base stays.

    Objective: E_{x ~ U} |eps_hat(x_t, t, c_f) - eps|^2 + gamma E_{x, c ~ base} |eps_hat(x_t, t, c)
    - eps|^2 + lambda sum_i F_i (theta_i - theta*_i)^2, squared norms summed over D: denoising score
    matching on uniform noise under the forgotten classes and on generated items of the kept ones,
    and elastic weight consolidation towards the base model theta*.
    Fisher diagonal: F_i = E_x [(sum_t d/dtheta_i |eps_hat(x_t, t, c) - eps|^2)^2] over 1000
    timesteps and generated items of all classes; the gradient of an item is summed over the
    timesteps, then squared, then averaged over items. With fewer ``fisher_timesteps``, evenly
    spread,
    their mean stands for that of the 1000, so that lambda keeps its meaning.
    Data-free: the base model draws all items before the first step. U fills the range of the data
    in model space, [-1, 1] in the paper (for points, the range of the drawn items).
    The classes of the kept items are dropped as often as in other trainings (label_dropout), c_f
    never. Released: no dropout; items drawn in 1,000 ancestral steps with guidance w = 2.
    Adapted: an unconditional model cannot be told what to forget. There it is a diagnostic only:
    all drawn items are kept, and the whole model learns to emit uniform noise as well.
    Cost: two passes a step; before them K ``samples_per_class`` items with ``nfe`` evaluations
    each, and
    as many gradients over ``fisher_timesteps`` (an unconditional model has K = 1). The base model,
    P
    numbers of F, and the items.
    """

    name = "selective_amnesia"
    citation = (
        "Heng and Soh 2023, arXiv:2305.10120; code clear-nus/selective-amnesia b736571, ddpm/"
    )
    regimes = ("finetune",)
    needs = frozenset({"base"})
    presets = {
        "quick": {
            "method": {
                "ewc_weight": 0.5,
                "samples_per_class": 100,
                "fisher_timesteps": 25,
                "nfe": 49,
            }
        },
        "standard": {"finetuning": BUDGET},
        "paper": RELEASED,
    }

    def skip(self, model: Model, regime: Regime) -> str | None:
        """Ancestral sampling takes as many steps as the process has at most."""
        if self.options.sampler == "ancestral":
            model.process.grid(self.options.nfe)
        return None

    def setup(self, session: Session) -> None:
        """theta*, and room for the items and for F."""
        c, K = self.options, session.model.classes
        self.anchor = flat(session.base.parameters())
        classes = None if K is None else range(K)
        self.memory = Generated(session, classes, c.samples_per_class, c.nfe, c.guidance, c.sampler)
        self.fisher = Fisher(len(self.anchor)).to(self.anchor.device)
        session.register_state("memory", self.memory)
        session.register_state("fisher", self.fisher)

    def num_preparation_steps(self, session: Session) -> int:
        """Batches of items to draw, then the items of F."""
        return self.memory.batches(session) + len(self.memory)

    def preparation_step(self, session: Session, i: int) -> None:
        """Draw a batch of items; after the last, add the square of one item's gradient to F."""
        item = i - self.memory.batches(session)
        if item < 0:
            self.memory.draw(session, i)
        else:
            g = self.summed_gradient(session, item)
            self.fisher.diagonal += g.square() / len(self.memory)

    def summed_gradient(self, session: Session, item: int) -> Tensor:
        """sum_t d/dtheta |eps_hat(x_t, t, c) - eps|^2 of one item ``[P]``, over 1000 times t."""
        model, n = session.model, self.options.fisher_timesteps
        x0, y = self.memory.x[item], self.memory.y[item]
        t = model.process.sample_times((torch.arange(n, device=y.device) + 0.5) / n)
        eps = session.noise("fisher", item, count=n).normal(model.shape)
        total = torch.zeros_like(self.fisher.diagonal)
        for t_i, eps_i in zip(*(v.split(session.batch_size) for v in (t, eps)), strict=True):
            x, c = x0.expand_as(eps_i), y.expand_as(t_i)
            x_t = model.process.perturb(x, t_i, eps_i)
            batch = Batch(x, t_i, eps_i, x_t, c, None if model.classes is None else c)
            (gradient,) = session.gradients(len(c) * squared_norm(session, batch))
            total += gradient
        return TIMESTEPS / n * total

    def update(self, session: Session, step: int) -> Tensor:
        """Descend on noise, on the kept classes and towards the base."""
        c = self.options
        L_f = squared_norm(session, self.surrogate(session, step))
        L_r = squared_norm(session, self.replayed(session, step))
        moved = flat(session.model.parameters()) - self.anchor
        distance = (self.fisher.diagonal * moved.square()).sum()
        loss = L_f + c.gamma * L_r + c.ewc_weight * distance
        session.minimise(loss)
        self.record(loss_forget=L_f, loss_retain=L_r, distance=distance)
        return loss.detach()

    def surrogate(self, session: Session, step: int) -> Batch:
        """Uniform noise under the forgotten classes."""
        model, count = session.model, session.batch_size
        noise = session.noise("surrogate", step, count=count)
        low, high = model.codec.bounds or (self.memory.x.min(), self.memory.x.max())
        x, y = low + (high - low) * noise.uniform(model.shape), self.memory.y[:1].expand(count)
        if model.classes is not None:
            y = picked(y.new_tensor(session.forget_labels), noise)
        batch = session.noised(Examples(x, y), step, "surrogate", encoded=True)
        return batch if model.classes is None else replace(batch, condition=y)

    def replayed(self, session: Session, step: int) -> Batch:
        """Drawn items of the kept classes; all drawn items where there are no classes."""
        y = self.memory.y
        kept = torch.ones_like(y, dtype=torch.bool)
        if session.model.classes is not None:
            kept = torch.isin(y, y.new_tensor(session.retain_labels))
        noise = session.noise("replay", step, count=session.batch_size)
        items = self.memory[picked(torch.nonzero(kept).flatten(), noise)]
        batch = session.noised(items, step, "replay", encoded=True)
        undropped = session.model.classes is not None and not self.options.label_dropout
        return replace(batch, condition=batch.y) if undropped else batch


class Fisher(nn.Module):
    """F ``[P]``, kept in checkpoints."""

    diagonal: Tensor

    def __init__(self, P: int) -> None:
        super().__init__()
        self.register_buffer("diagonal", torch.zeros(P))


def squared_norm(session: Session, batch: Batch) -> Tensor:
    """E |eps_hat - eps|^2, summed over D."""
    return session.model.dim * dsm_loss(session.model, batch)


def flat(parameters: Iterable[Tensor]) -> Tensor:
    """All entries, one tensor after another ``[P]``."""
    return torch.cat([parameter.reshape(-1) for parameter in parameters])


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """Selective Amnesia."""
    return [SelectiveAmnesia]
