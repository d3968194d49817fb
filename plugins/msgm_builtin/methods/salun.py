"""SalUn: D_f gets another target, by the weights that are salient to it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msgm_bench import Batch, Data, Method, Model, Prompts, Regime, Session, dsm_loss, hookimpl
from msgm_builtin.methods.anchors import check_anchors
from msgm_builtin.methods.prediction_loss import noise_to, prediction_loss
from msgm_builtin.methods.relabel import (
    anchors_of,
    next_retain_classes,
    random_retain_classes,
    relabelling_texts,
)
from msgm_builtin.methods.salun_mask import Saliency
from msgm_builtin.methods.salun_options import PRESETS, RELABELS, SEARCH_SPACE, SalUnOptions


class SalUn(Method[SalUnOptions]):
    """SalUn: denoises D_f to another target by the weights that are salient to D_f.

    L = E |eps_hat(x_t, t[, c_f]) - eps'|^2 / D  on D_f  +  alpha E |eps_hat - eps|^2 / D  on D_g

    The gradient is clipped, then masked, then Adam's; the mask is 1 for the top ``mask_fraction``
    of all weights by the sum of gradients of denoising score matching on D_f.
    Cost: two passes a step, and a forward one for the eps_hat of another class; before the first
    step one pass through D_f, two with guidance. P numbers and P bits.
    Targets eps', the mask and the released code: docs/methods/salun.md.
    """

    name = "salun"
    citation = "Fan et al. 2024, arXiv:2310.12508; code OPTML-Group/Unlearn-Saliency a6e89fd, DDPM/"
    regimes = ("finetune",)
    needs = frozenset({"retain", "forget"})
    presets = PRESETS
    search_space = SEARCH_SPACE
    anchored: Prompts | None = None

    def skip(self, model: Model, regime: Regime) -> str | None:
        """Reason to skip options that need classes on a model without any, or None."""
        return self.options.conflict(model)

    def check_data(self, data: Data, targets: Sequence[int]) -> None:
        """Refuse target=anchor for concepts without an anchor."""
        if self.options.target == "anchor":
            check_anchors(data, targets, self.options.anchor)

    def texts(self, model: Model, data: Data, targets: Sequence[int]) -> Sequence[str]:
        """The prompts of D_f with anchors, for target=anchor."""
        c = self.options
        if self.target(model) != "anchor":
            return ()
        return relabelling_texts(data, targets, c.anchor, required=c.target == "anchor")

    def target(self, model: Model) -> str:
        """The option ``target``, with auto resolved for ``model``."""
        if self.options.target != "auto":
            return self.options.target
        if isinstance(model.conditioning, Prompts):
            return "anchor"
        return "random_image" if model.conditioning is None else "next_class"

    def setup(self, session: Session) -> None:
        """Prompts with anchors; register the mask."""
        c = self.options
        if self.target(session.model) == "anchor":
            self.anchored = anchors_of(session, c.anchor, required=c.target == "anchor")
        self.saliency = Saliency(session, c.mask_fraction, c.guidance(), c.mask_reduction)
        session.register_state("saliency", self.saliency)

    def num_preparation_steps(self, session: Session) -> int:
        """Batches of one pass through D_f."""
        return self.saliency.num_batches(session)

    def preparation_step(self, session: Session, i: int) -> None:
        """Add a batch of D_f to the mask."""
        self.saliency.add_batch(session, i)

    def update(self, session: Session, step: int) -> Tensor:
        """Descend L by the salient weights."""
        c, model = self.options, session.model
        retain, forget = session.batch("retain", step), session.batch("forget", step)
        L_r = dsm_loss(model, retain)
        L_f = self.forget_loss(session, forget, retain, step)
        alpha = c.alpha * (model.dim if c.retain_reduction == "sum" else 1)
        loss = L_f + alpha * L_r
        session.minimise(loss, mask=self.saliency.mask)
        self.record(loss_retain=L_r, loss_forget=L_f)
        return loss.detach()

    def forget_loss(self, session: Session, forget: Batch, retain: Batch, step: int) -> Tensor:
        """E |eps_hat(x_t, t[, c_f]) - eps'|^2 / D, or minus the loss on D_f (target=ascent)."""
        model, condition = session.model, forget.condition
        target = self.target(model)
        if target in RELABELS and not self.options.label_dropout:
            condition = forget.y
        eps_hat = model.eps(forget.x_t, forget.t, condition)
        if target == "ascent":
            return -(eps_hat - forget.eps).square().mean()
        eps = self.relabel_target(session, forget, retain, step)
        if target in RELABELS:
            return prediction_loss(model, forget.t, eps_hat, eps)
        return (eps_hat - eps).square().mean()

    def relabel_target(self, session: Session, forget: Batch, retain: Batch, step: int) -> Tensor:
        """eps' ``[N, *shape]``."""
        model, target = session.model, self.target(session.model)
        if target in RELABELS:
            other = self.other_classes(session, forget, step)
            with torch.no_grad():
                other = other if self.anchored is None else self.anchored.embed(other)
                return model.eps(forget.x_t, forget.t, other)
        if target == "noise":
            return session.batch("forget", step, "target").eps
        return noise_to(model, forget, retain.x0, self.options.target_clip_value)

    def other_classes(self, session: Session, forget: Batch, step: int) -> Tensor:
        """c' ``int64 [N]``: other conditions, or the null condition by ``label_dropout``."""
        other = forget.y  # of the prompts with anchors
        if self.target(session.model) == "next_class":
            other = next_retain_classes(session, forget.y)
        elif self.anchored is None:
            other = random_retain_classes(session, step, forget.y)
        if self.options.label_dropout:
            condition = session.batch("forget", step, "class").condition
            K = session.model.null(len(forget.y), forget.y.device)
            other = other if condition is None else torch.where(condition == K, K, other)
        return other


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """SalUn."""
    return [SalUn]
