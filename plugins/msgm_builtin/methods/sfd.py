"""SFD: a one-step generator without the forgotten classes, distilled without data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from msgm_bench import (
    Data,
    Method,
    Model,
    Regime,
    Session,
    half_range,
    hookimpl,
)
from msgm_builtin.methods.anchors import texts_with_anchors
from msgm_builtin.methods.gradients import copy_sharing_frozen
from msgm_builtin.methods.sfd_batch import draw_batch, safe_prompts
from msgm_builtin.methods.sfd_losses import (
    GeneratorBatch,
    fake_score_loss,
    generate,
    generator_loss,
    weighted_sum,
)
from msgm_builtin.methods.sfd_noise import check_noise_levels, generator_sigma, time_shares
from msgm_builtin.methods.sfd_options import (
    DRAWING_TASKS,
    PRESETS,
    SEARCH_SPACE,
    UNSUPPORTED_TASKS,
    SFDOptions,
)


class SFD(Method[SFDOptions]):
    """SFD: distils the base into a one-step generator whose forgotten classes show safe ones.

    L_psi   = w(c) |eps_psi(x_t, t, c) - eps|^2,
    L_theta = w(c) (x_phi - x_psi) . (x_phi - x_g - alpha (x_phi - x_psi))/omega,

    with x_g of the generator theta at pure noise, x_t = a x_g + sigma eps, x_phi and x_psi the
    x0_hat of the frozen base phi at (x_t, t, s) and of the fake score psi at (x_t, t, c), and omega
    the mean of |x_phi - x_g|; s = c for a class of D_g, a safe class of D_g for a forgotten one.

    Cost: 4 1/3 passes a step; three networks, two of them with Adam. One evaluation a sample.
    Data-free. Noise levels, safe classes and the released code: docs/methods/sfd.md.
    """

    name = "sfd"
    citation = "Chen et al. 2024, arXiv:2409.11219; code tqch/score-forgetting-distillation 3771028"
    regimes = ("finetune",)
    needs = frozenset({"base"})
    unsupported_tasks = UNSUPPORTED_TASKS
    presets = PRESETS
    search_space = SEARCH_SPACE

    def skip(self, model: Model, regime: Regime) -> str | None:
        """Reason to skip a model without conditions, or captions with a safe class, or None."""
        reason = self.options.conflict(model)
        if reason is None:
            check_noise_levels(model, self.options.sigma_range)
        return reason

    def check_data(self, data: Data, targets: Sequence[int]) -> None:
        """Refuse a safe class that is not one of D_g, and concepts without an anchor."""
        self.options.check_data(data, targets)

    def texts(self, model: Model, data: Data, targets: Sequence[int]) -> Sequence[str]:
        """The prompts of D_f with the overriding concept, unless the safe captions are random."""
        if self.options.safe_class != "next":
            return ()
        return texts_with_anchors(data, targets, self.options.override)

    def required_task_options(self, model: Model) -> Mapping[str, Mapping[str, Any]]:
        """Samples of one unguided evaluation at the generator's own noise level."""
        sampler_options = {"sigma": generator_sigma(model, self.options.generator_sigma)}
        one_step = {"sampler": "one_step", "nfe": 1, "sampler_options": sampler_options}
        return {task: {**one_step, "guidance": 0.0} for task in DRAWING_TASKS}

    def setup(self, session: Session) -> None:
        """phi, psi with Adam, the generator's time t_i and the distillation's range of times."""
        c, model = self.options, session.model
        self.phi = session.base
        self.psi = copy_sharing_frozen(model).eval()
        self.psi_optimizer = session.adam(
            "fake score", self.psi.network, c.fake_learning_rate, (0.0, 0.999)
        )
        self.safe = safe_prompts(session, c)
        sigma = generator_sigma(model, c.generator_sigma)
        self.t_i = model.process.nearest_time(half_range(model.codec) * sigma)
        self.time_range = time_shares(model, c.sigma_range)

    def update(self, session: Session, step: int) -> Tensor:
        """Descend L_psi ``fake_steps`` times, then L_theta."""
        c, theta = self.options, session.model.eval()
        for k in range(c.fake_steps):
            batch = draw_batch(session, c, self.time_range, self.safe, step, "psi", k)
            loss_fake = self.fake_score_step(theta, batch)
        batch = draw_batch(session, c, self.time_range, self.safe, step, "theta")
        x_g = generate(theta, batch, self.t_i)
        losses = generator_loss(self.phi, self.psi, x_g, batch, c.alpha)
        loss = weighted_sum(losses, batch, c.reduction)
        (gradient,) = session.gradients(loss)
        session.descend(gradient.clamp(-c.max_grad_value, c.max_grad_value))
        self.record(loss_fake=loss_fake)
        return loss.detach()

    def fake_score_step(self, theta: Model, batch: GeneratorBatch) -> Tensor:
        """One step of psi down L_psi, which is returned; theta is a constant."""
        with torch.no_grad():
            x_g = generate(theta, batch, self.t_i)
        losses = fake_score_loss(self.psi, x_g, batch)
        loss = weighted_sum(losses, batch, self.options.reduction)
        self.psi_optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(self.psi.parameters(), self.options.max_grad_value)
        self.psi_optimizer.step()
        return loss.detach()


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """SFD."""
    return [SFD]
