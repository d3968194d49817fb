"""ESD: erases a class or a concept by the negative of classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msgm_bench import Method, Model, Regime, Session, guided, hookimpl
from msgm_builtin.methods.esd_options import PRESETS, SEARCH_SPACE, ESDOptions
from msgm_builtin.methods.esd_trajectory import trajectory_states
from msgm_builtin.methods.generated_data import GeneratedItems, uniform_choice
from msgm_builtin.methods.labels import label_tensor
from msgm_builtin.methods.prediction_loss import prediction_loss


class ESD(Method[ESDOptions]):
    """ESD: erases a class or a prompt by training its prediction towards negative guidance.

    L = E w(t) |eps_hat(x_t, t, c_f) - sg[eps*_null - eta (eps*_c - eps*_null)]|^2 / D

    with eps*_c and eps*_null the frozen base's predictions at x_t for c_f and for the null
    condition, x_t on the guided trajectory from noise to c_f of the model in training, and w = 1,
    or 1/a^2 of networks that predict v.
    Cost: one pass and two forward ones a step, and one forward pass for each of
    ``trajectory_steps`` (two where guided; items take half of them). The base model.
    Data-free. Variants and the released code: docs/methods/esd.md.
    """

    name = "esd"
    citation = "Gandikota et al. 2023, arXiv:2303.07345; code rohitgandikota/erasing 25613d2"
    regimes = ("finetune",)
    needs = frozenset({"base"})
    presets = PRESETS
    search_space = SEARCH_SPACE

    def part(self, model: Model, regime: Regime) -> str:
        """``auto`` is ``cross``, as in ESD-x, of networks that have cross-attention."""
        if self.options.weights == "auto" and "cross" in model.parts:
            return "cross"
        return super().part(model, regime)

    def skip(self, model: Model, regime: Regime) -> str | None:
        """Reason to skip a model without conditions or without embeddings of classes, or None."""
        model.process.grid(self.options.trajectory_steps)  # raises where it has fewer times
        if model.conditioning is None:
            return "ESD sets a class against the null class: only for models of --conditional"
        if self.options.weights == "class" and "class" not in model.parts:
            return "weights=class: the network has no embedding of classes (use all)"
        return None

    def setup(self, session: Session) -> None:
        """Register the items to be noised."""
        c = self.options
        if c.state_source == "noised":
            count = c.samples_per_class * len(session.forget_concepts)
            self.items = GeneratedItems(session, session.forget_labels, count, c.nfe, c.guidance)
            session.register_state("drawn", self.items)

    def num_preparation_steps(self, session: Session) -> int:
        """Batches of items to be noised."""
        return self.items.num_batches(session) if self.options.state_source == "noised" else 0

    def preparation_step(self, session: Session, i: int) -> None:
        """Draw a batch of items from the base."""
        self.items.draw(session, i)

    def update(self, session: Session, step: int) -> Tensor:
        """Descend L."""
        model, weight = session.model, self.options.retain_weight
        x_t, t, c_f = self.sample_states(session, step)
        target = self.target(session, x_t, t, c_f)
        loss = prediction_loss(model, t, model.eps(x_t, t, c_f), target)
        if weight:
            noise = session.noise("retain", step, count=session.batch_size)
            c_g = uniform_choice(label_tensor(session.retain_labels, t.device), noise)
            with torch.no_grad():
                target = session.base.eps(x_t, t, c_g)
            loss = loss + weight * prediction_loss(model, t, model.eps(x_t, t, c_g), target)
        session.minimise(loss)
        return loss.detach()

    @torch.no_grad()
    def target(self, session: Session, x_t: Tensor, t: Tensor, c_f: Tensor) -> Tensor:
        """eps*_null - eta (eps*_c - eps*_null), or the same from eps*_c, ``[N, *shape]``."""
        base, eta = session.base, self.options.eta
        eps_c, eps_null = base.eps(x_t, t, c_f), base.eps(x_t, t)
        return guided(eps_c, eps_null, -eta - (self.options.erase_from == "null"))

    def sample_states(self, session: Session, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """States x_t ``[N, *shape]``, their times ``[N]`` and conditions c_f ``[N]``."""
        c = self.options
        noise = session.noise("class", step, count=session.batch_size)
        if c.state_source == "noised":
            positions = torch.arange(len(self.items), device=noise.device)
            items = self.items[uniform_choice(positions, noise)]
            batch = session.noised(items, step, "states", encoded=True)
            return batch.x_t, batch.t, batch.y
        c_f = uniform_choice(label_tensor(session.forget_labels, noise.device), noise)
        x_t, t = trajectory_states(session, step, c_f, c.trajectory_steps, c.guidance)
        return x_t, t, c_f


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """ESD."""
    return [ESD]
