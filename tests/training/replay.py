"""A method that reads no data: it learns what the frozen base model generates."""

from __future__ import annotations

import torch
from torch import nn

from msgm_bench import Examples, Method, ProbabilityFlow, dsm_loss

CHUNKS, CHUNK = 3, 16


class Replay(Method):
    """Samples of the base, drawn before the first step, and denoising score matching on them."""

    name = "replay"
    regimes = ("retrain", "finetune")
    needs = frozenset({"base"})

    def setup(self, session):
        """Room for the samples."""
        self.memory = nn.Module()
        empty = torch.zeros(CHUNKS * CHUNK, *session.model.shape)
        self.memory.register_buffer("x", empty)
        session.register_state("memory", self.memory)

    def num_preparation_steps(self, session):
        """Chunks."""
        return CHUNKS

    def preparation_step(self, session, i):
        """Draw one."""
        base, first = session.base, i * CHUNK
        noise = session.noise("replay", start=first, count=CHUNK)
        with torch.no_grad():
            drawn = ProbabilityFlow(3)(base.eps, base.process, base.shape, noise).x
        self.memory.x[first : first + CHUNK] = drawn

    def update(self, session, step):
        """Learn from some of them."""
        size = session.batch_size
        order = session.noise("order", step, count=CHUNKS * CHUNK).uniform(()).argsort()
        labels = (
            torch.zeros(1)
            if session.model.conditioning is None
            else torch.tensor(session.retain_labels)
        )
        y = labels.long().repeat(size)[:size]  # all but the forgotten ones
        items = Examples(self.memory.x[order[:size]], y)
        loss = dsm_loss(session.model, session.noised(items, step, encoded=True))
        session.minimise(loss)
        return loss.detach()
