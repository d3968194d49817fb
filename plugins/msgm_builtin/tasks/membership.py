"""Losses and likelihoods of training and of held-out items of D_f: what a model remembers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from msgm_bench import (
    Cost,
    CountOptions,
    Examples,
    Model,
    ModelContext,
    Noise,
    OptionError,
    Task,
    adams_nll,
    derive_seed,
    half_range,
    hookimpl,
)
from msgm_builtin.tasks.likelihood import CONDITIONS, condition_of
from msgm_builtin.tasks.skip_reasons import track_of

EXACT_DIM = 8  # dimensions up to which the divergence is exact, not from probes
VJP_PASSES = 3  # cost of an evaluation with its vector-Jacobian product


class MembershipOptions(CountOptions):
    """Numbers of items, noise levels, and the likelihood's solver."""

    batch_size: int = Field(250, ge=1, description="items scored at once and stored together")
    count: int = Field(
        1_000, ge=1, description="most training items of D_f, and most held-out items of D_f"
    )
    levels: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.1, 0.2, 0.4, 0.8),
        min_length=1,
        max_length=32,
        description="sigma/a at which losses are taken, in halves of the data's range",
    )
    repeats: int = Field(
        8, ge=1, le=1_000, description="noises at a level, the same for all items and models"
    )
    nll_count: int = Field(
        500, ge=0, description="most items of each kind whose likelihood is computed, too"
    )
    nodes: int = Field(32, ge=4, le=1_024, description="nodes of the likelihood's solver adams")

    @field_validator("levels")
    @classmethod
    def _once(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        """Refuse a level that is there twice."""
        if len(set(levels)) < len(levels):
            raise ValueError("different numbers")
        return levels


class Membership(Task[MembershipOptions]):
    """Losses and likelihoods of training and of held-out items of D_f, the training items first.

    loss_j(x) = mean over k of |eps_hat(a x + sigma_j eps_jk, t_j[, c]) - eps_jk|^2 / D at the time
    t_j of each level. The noises eps_jk are the same for all items and all models, and grey levels
    are the centres of their bins, so that scores differ by the items alone. The likelihood is that
    of the task ``likelihood`` with ``solver=adams``, at the same points. Class-conditional models
    have each item's class, text-to-image models its caption.
    """

    name = "membership"
    citation = "Hu and Pang 2023, arXiv:2301.09956; Matsumoto et al. 2023, arXiv:2302.03262"
    on_request = True
    measures = True
    has_control = True
    presets = {"quick": {"tasks": {"membership": {"count": 250, "nll_count": 100}}}}

    def check(self, model: Model) -> None:
        """Refuse a level that the process does not reach.

        Raises:
            OptionError: It is such a level.
        """
        process, unit = model.process, half_range(model.codec)
        ends = torch.tensor([process.t_min, process.T], dtype=torch.float64)
        low, high = (process.noise_to_signal(ends) / unit).tolist()
        wrong = [level for level in self.options.levels if not low <= level <= high]
        if wrong:
            raise OptionError(
                f"membership.levels has {wrong[0]:g}", f"levels from {low:.3g} to {high:.3g}"
            )

    def cost(self, model: Model) -> Cost:
        """Evaluations of the losses, and of the likelihood with its products as passes."""
        c = self.options
        nfe = len(c.levels) * c.repeats
        if not self._has_likelihood(model):
            return Cost(nfe)
        assumed = f"{c.nodes} nodes a likelihood of {VJP_PASSES} passes; stiff items take more"
        return Cost(nfe + c.nodes * VJP_PASSES, assumed=assumed)

    def protocol(self, context: ModelContext) -> dict[str, Any]:
        """The options, how the divergence is computed, and the condition of the items."""
        settings, track = super().protocol(context), track_of(context.model)
        if self._has_likelihood(context.model):
            settings["divergence"] = self._divergence(context.model)
        else:
            settings["nll_count"] = 0
            del settings["nodes"]
        return settings | ({"condition": CONDITIONS[track]} if track in CONDITIONS else {})

    def sizes(self, context: ModelContext) -> tuple[int, int]:
        """Numbers of training and of held-out items."""
        data, count = context.data, self.options.count
        members = int(data.members(data.train, context.targets).sum()) if len(data.train) else 0
        return min(count, members), min(count, len(context.forget))

    def total(self, context: ModelContext) -> int:
        """Number of items of both kinds."""
        return sum(self.sizes(context))

    def items(self, context: ModelContext) -> Examples:
        """The training items, then the held-out ones, by chance where there are more."""
        data = context.data
        members = data.members(data.train, context.targets).nonzero().flatten()
        train = data.train[self._chosen(context, members.cpu(), "train")].to(context.device)
        held_out = torch.arange(len(context.forget))
        test = context.forget[self._chosen(context, held_out, "test").to(context.device)]
        c = None if train.c is None or test.c is None else torch.cat([train.c, test.c])
        return Examples(torch.cat([train.x, test.x]), torch.cat([train.y, test.y]), c)

    def draw(self, context: ModelContext, start: int, count: int) -> dict[str, Tensor]:
        """Of each item: ``member``, whether it is a training item; ``loss [count, levels]``.

        ``nats``: -log p in model space, infinite where the integration failed, and 0 where
        ``has_nats`` is false.
        """
        batch, model = self.items(context)[start : start + count], context.model
        z, condition = model.codec.encode(batch.x), condition_of(model, batch)
        member = torch.arange(start, start + count) < self.sizes(context)[0]
        loss = self._losses(context, z, condition)
        nats = torch.zeros(count, dtype=torch.float64)
        has_nats = torch.zeros(count, dtype=torch.bool)
        nfe = torch.full((count,), len(self.options.levels) * self.options.repeats)
        for low, high in self._likelihood_parts(context, start, count):
            part = slice(low - start, high - start)
            noise = Noise(derive_seed(context.seed, self.name, "nll"), low, high - low, z.device)
            solution = adams_nll(
                model.eps_fn,
                model.process,
                z[part],
                noise,
                condition=None if condition is None else condition[part],
                divergence=self._divergence(model),
                nodes=self.options.nodes,
            )
            nats[part], has_nats[part] = solution.nats.double().cpu(), True
            nfe[part] += solution.item_nfe.cpu()
        return {"member": member, "loss": loss, "nats": nats, "has_nats": has_nats, "nfe": nfe}

    @torch.no_grad()
    def _losses(self, context: ModelContext, z: Tensor, condition: Tensor | None) -> Tensor:
        """loss_j of each item, ``float64 [N, levels]``; infinite where eps_hat is not finite."""
        c, model = self.options, context.model
        J, K, unit = len(c.levels), c.repeats, half_range(model.codec)
        noise = Noise(derive_seed(context.seed, self.name, "loss"), 0, J * K, z.device)
        eps = noise.normal(model.shape).reshape(J, K, *model.shape)
        loss = torch.zeros(len(z), J, dtype=torch.float64)
        for j, level in enumerate(c.levels):
            t = torch.full((len(z),), model.process.nearest_time(level * unit), device=z.device)
            for eps_jk in eps[j]:
                x_t = model.process.perturb(z, t, eps_jk.expand_as(z))
                error = model.eps(x_t, t, condition) - eps_jk
                loss[:, j] += error.double().square().flatten(1).mean(dim=1).cpu() / K
        return loss.nan_to_num(nan=torch.inf, posinf=torch.inf)

    def _likelihood_parts(
        self, context: ModelContext, start: int, count: int
    ) -> Iterator[tuple[int, int]]:
        """First and last + 1 of the items of a chunk whose likelihood is computed, by kind."""
        if not self._has_likelihood(context.model):
            return
        members, others = self.sizes(context)
        for first, size in ((0, members), (members, others)):
            low = max(first, start)
            high = min(first + min(size, self.options.nll_count), start + count)
            if low < high:
                yield low, high

    def _chosen(self, context: ModelContext, positions: Tensor, kind: str) -> Tensor:
        """At most ``count`` of ``positions [N]``, in their order."""
        generator = torch.Generator().manual_seed(derive_seed(context.seed, self.name, kind))
        order = torch.randperm(len(positions), generator=generator)[: self.options.count]
        return positions[order.sort().values]

    def _has_likelihood(self, model: Model) -> bool:
        """Whether any is computed: latents have no density of the data."""
        return bool(self.options.nll_count and model.codec.bits_offset is not None)

    def _divergence(self, model: Model) -> Literal["exact", "hutchinson"]:
        """How the divergence of the likelihood is computed."""
        return "exact" if model.dim <= EXACT_DIM else "hutchinson"


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Membership."""
    return [Membership]
