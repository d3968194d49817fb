"""Items that the base model draws for methods without data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from msgm_bench import (
    Ancestral,
    Conditioned,
    Examples,
    Model,
    Noise,
    ProbabilityFlow,
    ReverseSampler,
    Session,
)


class Generated(nn.Module):
    """Items of the base model in model space, drawn batch by batch before the first step.

    ``session.register_state`` it, so that what was drawn survives a kill. Images are cut off at
    the bounds of the data.

    Args:
        session: Its base model draws.
        classes: Classes of the items, in turn; None for an unconditional model.
        per_class: Items of each class (an unconditional model counts as one class).
        nfe: Most network evaluations of an item.
        guidance: w of (1 + w) eps_c - w eps_null.
        sampler: heun, the probability-flow ODE, which suits every process; or ancestral, with the
            posterior's variance (DDIM at eta = 1).
    """

    x: Tensor
    y: Tensor

    def __init__(
        self,
        session: Session,
        classes: Sequence[int] | None,
        per_class: int,
        nfe: int,
        guidance: float = 0.0,
        sampler: Literal["heun", "ancestral"] = "heun",
    ) -> None:
        super().__init__()
        weight = next(session.model.parameters())
        turn = torch.tensor([0] if classes is None else classes, device=weight.device)
        self.classes, self.guidance = classes, guidance
        solver: ReverseSampler = ProbabilityFlow()
        if sampler == "ancestral":
            solver = Ancestral(variance="posterior")
        self.solver = solver.with_nfe(nfe)
        self.register_buffer("y", turn.repeat(per_class))
        self.register_buffer("x", torch.zeros(len(self.y), *session.model.shape).to(weight.device))

    def __len__(self) -> int:
        """Number of items."""
        return len(self.y)

    def __getitem__(self, index: Tensor | slice) -> Examples:
        """The items that ``index`` selects, for ``session.noised(..., encoded=True)``."""
        return Examples(self.x[index], self.y[index])

    def batches(self, session: Session) -> int:
        """Batches that there are to draw."""
        return math.ceil(len(self) / session.batch_size)

    def draw(self, session: Session, batch: int) -> None:
        """Fill in a batch."""
        model: Model = session.base
        first = batch * session.batch_size
        part = slice(first, first + session.batch_size)
        noise = session.noise("generated", start=first, count=len(self.y[part]))
        if self.classes is not None:
            model = Conditioned(model, self.y[part], self.guidance)
        x = self.solver(model.eps_fn, model.process, model.shape, noise).x
        self.x[part] = x if model.codec.bounds is None else x.clamp(*model.codec.bounds)


def picked(choices: Tensor, noise: Noise) -> Tensor:
    """A uniform draw among ``choices [C]`` for each item of the noise."""
    return choices[(noise.uniform(()) * len(choices)).long()]
