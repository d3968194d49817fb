"""RGD: restricted gradients of forgetting and of retaining."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msgm_bench import (
    Batch,
    Data,
    Method,
    Model,
    Session,
    UsageError,
    dsm_loss,
    hookimpl,
    per_item,
)
from msgm_builtin.methods.gradients import restricted_gradient
from msgm_builtin.methods.rgd_coreset import coreset
from msgm_builtin.methods.rgd_options import PRESETS, SEARCH_SPACE, RGDOptions


class RGD(Method[RGDOptions]):
    """RGD: climbs the loss on D_f and descends the loss on D_g, each without its conflict.

    g = g_f' + lambda g_r',    g_f = -grad L_f,    g_r = grad L_r,
        g_f' = g_f - min(<g_f, g_r>, 0)/|g_r|^2 g_r,    g_r' = g_r - min(<g_f, g_r>, 0)/|g_f|^2 g_f,
        L_r = E |eps_hat - eps|^2 / D                                        on a coreset of D_g,
        L_f = E mean_i min((eps_hat_i - eps_i)^2, alpha a^2/sigma^2)         on D_f,
    so that the step g goes against neither g_f nor g_r.

    Cost: one pass on D_f a step, and one for every batch of the coreset (retain_items=set) or for
    one of them (retain_items=batch).
    The coreset, units and the released code: docs/methods/rgd.md.
    """

    name = "rgd"
    citation = "Ko et al. 2024, arXiv:2412.07808; code reds-lab/Restricted_gradient_... 0075ecb"
    regimes = ("finetune",)
    needs = frozenset({"retain", "forget"})
    presets = PRESETS
    search_space = SEARCH_SPACE

    def check_data(self, data: Data, targets: Sequence[int]) -> None:
        """Refuse groups that the data do not have.

        Raises:
            UsageError: Classes of items with several attributes, or more clusters than items.
        """
        n_clusters = self.options.n_clusters
        drawn = None if data.drawing is None else data.drawing.count
        N = drawn or int((~data.members(data.train, targets)).sum())
        grouping = self.options.grouping_of(data.train)
        if grouping == "class" and data.train.y.ndim > 1:
            raise UsageError("grouping = class on items with several attributes", "kmeans, random")
        if grouping == "prompt" and data.train.c is None:
            raise UsageError("grouping = prompt on items without captions", "class, kmeans, random")
        if grouping == "kmeans" and n_clusters > N:
            raise UsageError(f"{n_clusters} clusters of {N} items", f"at most {N} clusters")

    def setup(self, session: Session) -> None:
        """Draw the coreset; alpha in the units of model space."""
        c, retain, codec = self.options, session.items("retain"), session.model.codec
        grouping = c.grouping_of(retain, session.model)
        self.coreset = coreset(session, retain, grouping, c.n_clusters, c.items_per_group)
        x = self.coreset.x
        if codec.bounds is None:
            x = session.noised(self.coreset, 0, "range").x0
        low, high = codec.bounds or x.aminmax()
        self.cutoff = torch.as_tensor(c.alpha * ((high - low) / 2) ** 2, device=x.device)

    def update(self, session: Session, step: int) -> Tensor:
        """Descend g_f' + lambda g_r'."""
        lambda_ = self.options.retain_weight
        L_f = self.forget_loss(session.model, session.batch("forget", step))
        L_r, g_r = self.retain_gradient(session, step)
        (g_f,) = session.gradients(-L_f)
        session.descend(restricted_gradient(g_f, g_r) + lambda_ * restricted_gradient(g_r, g_f))
        self.record(loss_retain=L_r, loss_forget=L_f, product=torch.dot(g_f, g_r))
        return (lambda_ * L_r - L_f).detach()

    def forget_loss(self, model: Model, batch: Batch) -> Tensor:
        """L_f, or E |eps_hat - eps|^2 / D as far as alpha (truncation=batch)."""
        if self.options.truncation == "pixel":
            return truncated_loss(model, batch, self.cutoff)
        error = model.eps(batch.x_t, batch.t, batch.condition) - batch.eps
        return error.square().mean().clamp(max=self.options.alpha)

    def retain_gradient(self, session: Session, step: int) -> tuple[Tensor, Tensor]:
        """L_r and g_r ``[P]``, means over the coreset or over a random batch of it."""
        items = self.coreset
        if self.options.retain_items == "batch":
            order = session.noise("batch", step, count=len(items)).uniform(()).argsort()
            items = items[order[: session.batch_size]]
        L_r, g_r = torch.zeros((), device=items.x.device), torch.zeros(())
        for part, first in enumerate(range(0, len(items), session.batch_size)):
            part_items = items[slice(first, first + session.batch_size)]
            share = len(part_items) / len(items)
            L = dsm_loss(session.model, session.noised(part_items, step, f"set, part {part}"))
            (g,) = session.gradients(L)
            L_r, g_r = L_r + share * L.detach(), g_r + share * g
        return L_r, g_r


def truncated_loss(model: Model, batch: Batch, cutoff: Tensor) -> Tensor:
    """L_f = E mean_i min((eps_hat_i - eps_i)^2, cutoff a^2/sigma^2)."""
    a, sigma = model.process.marginal(batch.t)
    error = (model.eps(batch.x_t, batch.t, batch.condition) - batch.eps).square()
    return error.minimum(per_item(cutoff * (a / sigma) ** 2, error)).mean()


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """RGD."""
    return [RGD]
