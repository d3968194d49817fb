"""A method that uses all that a session offers."""

from __future__ import annotations

import copy

import torch
from torch import nn

from msgm_bench import Method, dsm_loss


class Seen(nn.Module):
    """What the preparation leaves."""

    def __init__(self):
        super().__init__()
        self.register_buffer("units", torch.zeros(8, dtype=torch.long))
        self.register_buffer("mask", torch.zeros(0, dtype=torch.bool))


class Nested(Method):
    """A mask from a pass over D_f, a critic with its own Adam, an inner loop that is undone."""

    name = "nested"
    needs = frozenset({"retain", "forget"})
    keep_moments = False

    def setup(self, session):
        """Mask and critic."""
        self.seen = Seen()
        self.seen.mask = torch.zeros(sum(p.numel() for p in session.model.parameters()), dtype=bool)
        session.register_state("seen", self.seen)
        self.critic = copy.deepcopy(session.model)
        self.descent = session.adam("critic", self.critic.network, 1e-3, betas=(0.0, 0.99))

    def num_preparation_steps(self, session):
        """Three batches of D_f."""
        return 3

    def preparation_step(self, session, i):
        """Entries whose gradient is positive on most batches, and a draw of dropout."""
        assert not session.model.training
        self.seen.units[i] += 1
        items = session.items("forget")[slice(i, i + 4)]
        batch = session.noised(items, i)
        (gradient,) = session.gradients(dsm_loss(session.model, batch))
        self.seen.mask |= gradient > torch.rand(()) * gradient.max()

    def update(self, session, step):
        """Critic, inner loop, masked descent."""
        assert session.model.training
        forget, retain = session.batch("forget", step), session.batch("retain", step)
        self.descent.zero_grad()
        dsm_loss(self.critic, forget).backward()
        self.descent.step()
        with session.inner_loop(self.keep_moments):
            for k in range(2):
                inner = session.batch("forget", 2 * step + k, "inner")
                session.minimise(dsm_loss(session.model, inner))
        with torch.no_grad():
            aim = self.critic.eps(retain.x_t, retain.t)
        aim = aim + 0.1 * session.noise("aim", step, count=len(aim)).normal(tuple(aim.shape[1:]))
        loss = (session.model.eps(retain.x_t, retain.t) - aim).square().mean()
        (gradient,) = session.gradients(loss)
        session.descend(gradient, ~self.seen.mask)
        self.record(critic=next(self.critic.parameters()).sum())
        return loss.detach()


class Sharing(Nested):
    """Inner loops leave their mark on Adam's moments."""

    name = "sharing"
    keep_moments = True
