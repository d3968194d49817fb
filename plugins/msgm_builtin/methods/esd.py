"""ESD: erased by the negative of classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from msgm_bench import (
    Conditioned,
    Method,
    Model,
    Options,
    Regime,
    Session,
    guided,
    hookimpl,
)
from msgm_builtin.methods.generated_data import Generated, picked

PUBLISHED = {
    "finetuning": {
        "steps": 200,
        "batch_size": 1,
        "learning_rate": 5e-5,
        "warmup_steps": 0,
        "lr_schedule": "constant",
        "ema_decay": 0.0,
        "continue_optimizer": False,
    }
}


class ESDOptions(Options):
    """Target and states."""

    eta: float = Field(1.0, ge=0, description="strength of the negative guidance")
    erase_from: Literal["null", "class"] = Field(
        "null", description="where eta pushes away from: eps*_null, or eps*_c as released"
    )
    state_source: Literal["trajectory", "noised"] = Field(
        "trajectory", description="x_t: on the model's own way to c_f, or noised items"
    )
    trainable_weights: Literal["all", "class"] = Field(
        "all", description="what is trained: everything, or the embeddings of classes"
    )
    guidance: float = Field(
        2.0, ge=0, description="w of (1 + w) eps_c - w eps_null on that way and in drawing"
    )
    trajectory_steps: int = Field(50, ge=1, description="steps of a whole trajectory")
    samples_per_class: int = Field(
        500, ge=1, description="items of each class that are to be noised"
    )
    nfe: int = Field(99, ge=1, description="most network evaluations of such an item")


class ESD(Method[ESDOptions]):
    """ESD: told a forgotten class, the model shuns what the class was.

    Objective: |eps_hat(x_t, t, c_f) - sg[eps*_null - eta (eps*_c - eps*_null)]|^2/D, where eps*_c
    and eps*_null are what the frozen base says of x_t, given c_f and the null class. The released
    default is eps*_c - eta (eps*_c - eps*_null), so that its eta = 2 is the paper's eta = 1:
    erase_from=class.
    x_t: what DDIM, guided towards c_f, makes of noise up to a time t with the model that is being
    trained: a whole trajectory has ``trajectory_steps`` even steps, of which items take 0, 1, ...
    or all but the last, each number equally often. state_source=noised takes a(t) x0 + sigma(t) eps
    instead, with ``samples_per_class`` items x0 that the base drew before the first step.
    Data-free; no term holds the kept classes. With trainable_weights=class only the embeddings of
    classes
    are trained, as ESD-x trains only where the prompt enters: the kept classes stay as they are.
    Adapted: text-to-image in the paper, classes here. The paper's guidance 3 is w = 2 of
    (1 + w) eps_c - w eps_null. The published budget has batches of one.
    Cost: one pass and two forward ones a step, and one forward pass for each of
    ``trajectory_steps`` (two where guided, half of them taken). The base model.
    """

    name = "esd"
    citation = "Gandikota et al. 2023, arXiv:2303.07345; code rohitgandikota/erasing 25613d2"
    regimes = ("finetune",)
    needs = frozenset({"base"})
    presets = {
        "quick": {  # few steps of its own, and all classes but c_f as they were
            "finetuning": {"steps": 200, "learning_rate": 0.02, "warmup": 0, "ema": 0.0},
            "method": {"trainable_weights": "class", "trajectory_steps": 10},
        },
        "full": PUBLISHED,
        "paper": PUBLISHED,
    }

    def skip(self, model: Model, regime: Regime) -> str | None:
        """It needs the class and the null class, and as many times as it takes steps."""
        model.process.grid(self.options.trajectory_steps)
        if model.classes is None:
            return "it sets a class against the null class: only for models of --conditional"
        if self.options.trainable_weights == "class" and not tables(model):
            return "trainable_weights=class: the network has no embedding of classes (use all)"
        return None

    def setup(self, session: Session) -> None:
        """What is trained, and room for the items to be noised."""
        c = self.options
        self.mask = embedded(session.model) if c.trainable_weights == "class" else None
        if c.state_source == "noised":
            self.drawn = Generated(
                session, session.forget_labels, c.samples_per_class, c.nfe, c.guidance
            )
            session.register_state("drawn", self.drawn)

    def num_preparation_steps(self, session: Session) -> int:
        """Batches of items to be noised."""
        return self.drawn.batches(session) if self.options.state_source == "noised" else 0

    def preparation_step(self, session: Session, i: int) -> None:
        """Let the base draw a batch."""
        self.drawn.draw(session, i)

    def update(self, session: Session, step: int) -> Tensor:
        """Descend towards the base's negative guidance."""
        x_t, t, c_f = self.visited(session, step)
        aim = self.target(session, x_t, t, c_f)
        loss = (session.model.eps(x_t, t, c_f) - aim).square().mean()
        session.minimise(loss, mask=self.mask)
        return loss.detach()

    @torch.no_grad()
    def target(self, session: Session, x_t: Tensor, t: Tensor, c_f: Tensor) -> Tensor:
        """eps*_null - eta (eps*_c - eps*_null), or the same from eps*_c, ``[N, *shape]``."""
        base, eta = session.base, self.options.eta
        eps_c, eps_null = base.eps(x_t, t, c_f), base.eps(x_t, t)
        return guided(eps_c, eps_null, -eta - (self.options.erase_from == "null"))

    def visited(self, session: Session, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """States ``[N, *shape]``, their times ``[N]`` and forgotten classes ``[N]``."""
        noise = session.noise("class", step, count=session.batch_size)
        if self.options.state_source == "noised":
            positions = torch.arange(len(self.drawn), device=noise.device)
            items = self.drawn[picked(positions, noise)]
            batch = session.noised(items, step, "states", encoded=True)
            return batch.x_t, batch.t, batch.y
        c_f = picked(torch.tensor(session.forget_labels, device=noise.device), noise)
        training = session.model.training
        session.model.eval()
        x_t, t = self.trajectory(session, step, c_f)
        session.model.train(training)
        return x_t, t, c_f

    @torch.no_grad()
    def trajectory(self, session: Session, step: int, c_f: Tensor) -> tuple[Tensor, Tensor]:
        """States on the model's way from noise to c_f, and their times; the longest ways first."""
        model, c, N = session.model, self.options, len(c_f)
        offset = float(session.noise("length", step, count=1).uniform(()))
        lengths = [int((N - 1 - i + offset) / N * c.trajectory_steps) for i in range(N)]
        times = model.process.grid(c.trajectory_steps)
        x = model.process.prior_sampling(model.shape, session.noise("prior", step, count=N))
        for k, (t, s) in enumerate(pairwise(times)):
            n = sum(length > k for length in lengths)
            if n == 0:
                break
            eps = Conditioned(model, c_f[:n], c.guidance).eps(x[:n], t.to(x).expand(n))
            (a_t, sigma_t), (a_s, sigma_s) = (model.process.marginal(v) for v in (t, s))
            x0_hat = (x[:n] - sigma_t * eps) / a_t
            x = torch.cat([a_s * x0_hat + sigma_s * eps, x[n:]])
        return x, times[lengths].to(x)


def tables(model: Model) -> list[nn.Embedding]:
    """The embeddings in the network."""
    return [module for module in model.modules() if isinstance(module, nn.Embedding)]


def embedded(model: Model) -> Tensor:
    """Mask ``bool [P]`` of the weights of the embeddings."""
    inside = {id(table.weight) for table in tables(model)}
    parts = [torch.full_like(p, id(p) in inside, dtype=torch.bool) for p in model.parameters()]
    return torch.cat([part.reshape(-1) for part in parts])


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """ESD."""
    return [ESD]
