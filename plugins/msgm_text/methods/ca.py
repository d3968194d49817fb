"""Concept Ablation: a prompt for a forgotten concept draws what the same prompt's anchor draws."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msgm_bench import (
    Batch,
    Data,
    Method,
    Model,
    Prompts,
    Regime,
    Session,
    dsm_loss,
    hookimpl,
)
from msgm_builtin.methods.anchors import anchored_prompts, check_anchors, texts_with_anchors
from msgm_builtin.methods.generated_data import GeneratedItems, uniform_choice
from msgm_builtin.methods.prediction_loss import prediction_loss
from msgm_text.methods.ca_options import PRESETS, SEARCH_SPACE, CAOptions


class CA(Method[CAOptions]):
    """Concept Ablation: matches predictions for prompts of D_f to those for their anchors.

    L = E w(t) |eps_hat(x_t, t, c_f) - sg[eps_hat(x_t, t, c_a)]|^2 / D  +  lambda L_r,
        L_r = E w(t) |eps_hat(x_t, t, c) - eps|^2 / D    on D_g,

    with c_a the prompt c_f in which the anchor stands for the concept, and x_t of noised items that
    the base drew for c_a; w = 1, or 1/a^2 of networks that predict v.
    Cost: two passes a step and a forward one; before the first step ``num_items`` items of ``nfe``
    evaluations each, twice as many where guided. The base model.
    Anchors, weights and the released code: docs/methods/ca.md.
    """

    name = "ca"
    citation = (
        "Kumari et al. 2023, arXiv:2303.13516, equation 5; code nupurkmr9/concept-ablation 045c6f7"
    )
    regimes = ("finetune",)
    needs = frozenset({"retain", "base"})
    presets = PRESETS
    search_space = SEARCH_SPACE

    def part(self, model: Model, regime: Regime) -> str:
        """``auto`` is ``cross_kv``, as published, of networks that have cross-attention."""
        if self.options.weights == "auto" and "cross_kv" in model.parts:
            return "cross_kv"
        return super().part(model, regime)

    def skip(self, model: Model, regime: Regime) -> str | None:
        """Reason to skip a model without prompts, or None."""
        if not isinstance(model.conditioning, Prompts):
            return "ca matches a prompt to the one with its anchor: it needs --text"
        return None

    def check_data(self, data: Data, targets: Sequence[int]) -> None:
        """Refuse concepts without an anchor.

        Raises:
            OptionError: The prompts name none, and neither does ``anchor``.
        """
        check_anchors(data, targets, self.options.anchor)

    def texts(self, model: Model, data: Data, targets: Sequence[int]) -> Sequence[str]:
        """The prompts of D_f with anchors."""
        return texts_with_anchors(data, targets, self.options.anchor)

    def setup(self, session: Session) -> None:
        """Prompts with anchors; register the items that the base draws for them."""
        c = self.options
        self.anchored = anchored_prompts(session, session.model, c.anchor)
        self.items = GeneratedItems(
            session,
            session.forget_labels,
            c.num_items,
            c.nfe,
            c.guidance,
            prompts=anchored_prompts(session, session.base, c.anchor),
        )
        session.register_state("drawn", self.items)

    def num_preparation_steps(self, session: Session) -> int:
        """Batches of items to be drawn."""
        return self.items.num_batches(session)

    def preparation_step(self, session: Session, i: int) -> None:
        """Draw a batch of items from the base."""
        self.items.draw(session, i)

    def update(self, session: Session, step: int) -> Tensor:
        """Descend L."""
        L_f = self.ablation_loss(session, self.anchor_batch(session, step))
        L_r = dsm_loss(session.model, session.batch("retain", step))
        loss = L_f + self.options.retain_weight * L_r
        session.minimise(loss)
        self.record(loss_forget=L_f, loss_retain=L_r)
        return loss.detach()

    def anchor_batch(self, session: Session, step: int) -> Batch:
        """Noised items of anchors, whose captions ``y`` are those of D_f."""
        noise = session.noise("items", step, count=session.batch_size)
        positions = torch.arange(len(self.items), device=noise.device)
        items = self.items[uniform_choice(positions, noise)]
        return session.noised(items, step, "anchors", encoded=True)

    def ablation_loss(self, session: Session, batch: Batch) -> Tensor:
        """E w(t) |eps_hat(x_t, t, c_f) - sg[eps_hat(x_t, t, c_a)]|^2 / D, or with eps (noise)."""
        model, x_t, t, target = session.model, batch.x_t, batch.t, batch.eps
        if self.options.target == "model":
            with torch.no_grad():
                target = model.eps(x_t, t, self.anchored.embed(batch.y))
        return prediction_loss(model, t, model.eps(x_t, t, batch.y), target)


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """Concept Ablation."""
    return [CA]
