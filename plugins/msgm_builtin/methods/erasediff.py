"""EraseDiff: unlearning as a constrained problem, solved to first order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from msgm_bench import Batch, Data, Method, Model, Prompts, Regime, Session, dsm_loss, hookimpl
from msgm_builtin.methods.erasediff_options import PRESETS, SEARCH_SPACE, EraseDiffOptions
from msgm_builtin.methods.gradients import clip_norm
from msgm_builtin.methods.prediction_loss import prediction_loss
from msgm_builtin.methods.relabel import anchors_of, relabelled_eps, relabelling_texts


class EraseDiff(Method[EraseDiffOptions]):
    """EraseDiff: learns D_g under the constraint that D_f is denoised to another target.

    min L_r  subject to  q = L_f(theta) - L_f(theta^K) <= 0,
        L_r = E |eps_hat(x_t, t) - eps|^2 / D      on D_g,
        L_f = E |eps_hat(x_t, t) - eps_f|^2 / D    on D_f,
    where theta^K is K descent steps on L_f away; Adam steps down grad L_r + lambda grad q.

    Cost: two passes a step, and a forward one for target=relabel; an inner loop has K passes and a
    forward one more.
    Targets eps_f, the inner loop and the released code: docs/methods/erasediff.md.
    """

    name = "erasediff"
    citation = "Wu et al. 2024, arXiv:2401.05779; code JingWu321/EraseDiff 14f4e98, ddpm/"
    regimes = ("finetune", "retrain")
    needs = frozenset({"retain", "forget"})
    presets = PRESETS
    search_space = SEARCH_SPACE
    anchored: Prompts | None = None

    def skip(self, model: Model, regime: Regime) -> str | None:
        """Reason to skip a target that does not suit ``model``, or None."""
        return self.options.conflict(self.target(model), model)

    def target(self, model: Model) -> str:
        """The option ``target``, with auto resolved for ``model``."""
        if self.options.target != "auto":
            return self.options.target
        return "uniform" if model.conditioning is None else "relabel"

    def texts(self, model: Model, data: Data, targets: Sequence[int]) -> Sequence[str]:
        """The prompts of D_f with anchors."""
        return relabelling_texts(data, targets, self.options.anchor, required=False)

    def update(self, session: Session, step: int) -> Tensor:
        """Descend grad L_r + lambda grad q; L_f(theta^K) is a constant, so grad q = grad L_f."""
        c, model = self.options, session.model
        retain = session.batch("retain", step)
        if model.conditioning is not None and c.label_dropout_split == "forget":
            retain = replace(retain, condition=retain.y)
        forget, eps_f = self.forget_batch_and_target(session, step, "outer")
        L_f_K = None
        if self.options.num_inner_steps(session) and step % c.inner_interval == 0:
            L_f_K = self.inner_loop_loss(session, step, forget, eps_f)
        L_r, L_f = dsm_loss(model, retain), self.forget_loss(model, forget, eps_f)
        g_r, g_q = session.gradients(L_r, L_f)
        lambda_ = self.multiplier(g_r, g_q)
        session.descend(clip_norm(g_r + lambda_ * g_q, c.outer_max_grad_norm))
        self.record(loss_retain=L_r, loss_forget=L_f, multiplier=lambda_)
        if L_f_K is not None:
            self.record(q=L_f - L_f_K)
        return (L_r + lambda_ * L_f).detach()

    def setup(self, session: Session) -> None:
        """Prompts with anchors, of text-to-image models."""
        if isinstance(session.model.conditioning, Prompts):
            self.anchored = anchors_of(session, self.options.anchor, required=False)

    def forget_batch_and_target(
        self, session: Session, step: int, loop: str
    ) -> tuple[Batch, Tensor]:
        """A batch of D_f and its targets eps_f ``[N, *shape]``; ``loop`` names the draws."""
        batch, model = session.batch("forget", step, loop), session.model
        target, keeps_labels = self.target(model), self.options.label_dropout_split == "retain"
        if model.conditioning is not None and keeps_labels:
            batch = replace(batch, condition=batch.y)
        if target == "relabel":
            return batch, relabelled_eps(session, batch, self.anchored, step, loop)
        noise = session.noise("target", loop, step, count=len(batch.t))
        shape = tuple(batch.eps.shape[1:])
        eps_f = noise.uniform(shape) if target == "uniform" else noise.normal(shape)
        if self.options.noise_in_input:
            x_t = model.process.perturb(batch.x0, batch.t, eps_f)
            batch = replace(batch, eps=eps_f, x_t=x_t)
        return batch, eps_f

    def inner_loop_loss(self, session: Session, step: int, forget: Batch, eps_f: Tensor) -> Tensor:
        """L_f(theta^K) on the outer batch; the inner steps are undone."""
        K = self.options.num_inner_steps(session)
        with session.inner_loop(keep_moments=self.options.adam_moments == "shared"):
            for k in range(K):
                batch, target = self.forget_batch_and_target(session, K * step + k, "inner")
                session.minimise(self.forget_loss(session.model, batch, target))
            with torch.no_grad():
                return self.forget_loss(session.model, forget, eps_f)

    def forget_loss(self, model: Model, batch: Batch, eps_f: Tensor) -> Tensor:
        """L_f = E |eps_hat(x_t, t[, c_f]) - eps_f|^2 / D."""
        eps_hat = model.eps(batch.x_t, batch.t, batch.condition)
        if self.target(model) == "relabel":
            return prediction_loss(model, batch.t, eps_hat, eps_f)
        return (eps_hat - eps_f).square().mean()

    def multiplier(self, g_r: Tensor, g_q: Tensor) -> Tensor:
        """lambda, a scalar: ``forget_weight``, or max(0, eta - cos(g_r, g_q))."""
        if self.options.lambda_rule == "fixed":
            return g_r.new_full((), self.options.forget_weight)
        cosine = torch.cosine_similarity(g_r, g_q, dim=0)
        return (self.options.eta - cosine).clamp(min=0.0)


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """EraseDiff."""
    return [EraseDiff]
