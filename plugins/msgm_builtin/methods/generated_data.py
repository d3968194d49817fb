"""Items that the base model generates for methods without data."""

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
    Prompts,
    ReverseSampler,
    Session,
)


class GeneratedItems(nn.Module):
    """Items of the base model in model space, drawn batch by batch before the first step.

    The method hands this module to ``session.register_state``, so that items survive a kill.
    Images are clamped to the bounds of the data.

    Args:
        session: Source of the base model, which draws the items.
        labels: Classes or captions of the items, in turn; None for an unconditional model.
        count: Number of items.
        nfe: Most network evaluations of an item.
        guidance: w of (1 + w) eps_c - w eps_null.
        sampler: heun, the probability-flow ODE, which suits every process; or ancestral, with the
            posterior's variance (DDIM at eta = 1).
        prompts: What the items are drawn for, by their captions; None: the base's own prompts.
    """

    x: Tensor
    y: Tensor

    def __init__(
        self,
        session: Session,
        labels: Sequence[int] | None,
        count: int,
        nfe: int,
        guidance: float = 0.0,
        sampler: Literal["heun", "ancestral"] = "heun",
        prompts: Prompts | None = None,
    ) -> None:
        super().__init__()
        weight = next(session.model.parameters())
        cycle = torch.tensor([0] if labels is None else labels, device=weight.device)
        self.labels, self.guidance, self.prompts = labels, guidance, prompts
        reverse: ReverseSampler = ProbabilityFlow()
        if sampler == "ancestral":
            reverse = Ancestral(variance="posterior")
        self.sampler = reverse.with_nfe(nfe)
        self.register_buffer("y", cycle.repeat(math.ceil(count / len(cycle)))[:count])
        self.register_buffer("x", torch.zeros(len(self.y), *session.model.shape).to(weight.device))

    def __len__(self) -> int:
        """Number of items."""
        return len(self.y)

    def __getitem__(self, index: Tensor | slice) -> Examples:
        """The items that ``index`` selects, for ``session.noised(..., encoded=True)``."""
        return Examples(self.x[index], self.y[index])

    def num_batches(self, session: Session) -> int:
        """Batches of ``session.batch_size`` that hold all items."""
        return math.ceil(len(self) / session.batch_size)

    def draw(self, session: Session, batch: int) -> None:
        """Generate the items of a batch."""
        model: Model = session.base
        first = batch * session.batch_size
        part = slice(first, first + session.batch_size)
        noise = session.noise("generated", start=first, count=len(self.y[part]))
        if self.labels is not None:
            y = self.y[part]
            condition = y if self.prompts is None else self.prompts.embed(y)
            model = Conditioned(model, condition, self.guidance)
        x = self.sampler(model.eps_fn, model.process, model.shape, noise).x
        self.x[part] = x if model.codec.bounds is None else x.clamp(*model.codec.bounds)


def uniform_choice(choices: Tensor, noise: Noise) -> Tensor:
    """A uniform draw among ``choices [C]`` for each item of the noise."""
    return choices[(noise.uniform(()) * len(choices)).long()]
