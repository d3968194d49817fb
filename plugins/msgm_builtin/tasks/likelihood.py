"""Likelihood of held-out items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import (
    Cost,
    CountOptions,
    DiscreteDDPM,
    Examples,
    IncompatibleError,
    Model,
    ModelContext,
    Noise,
    OptionError,
    Task,
    adams_nll,
    derive_seed,
    elbo_nll,
    hookimpl,
    ode_nll,
)
from msgm_bench import Likelihood as NegativeLogLikelihood
from msgm_builtin.tasks.held_out_items import items, split_sizes
from msgm_builtin.tasks.skip_reasons import track_of

ADAPTIVE_NFE = 150  # of dopri5 at rtol = 1e-5; it has order 5 and needs rtol^(-1/5) times that
STEP_NFE = {"heun": 2, "rk4": 4}  # evaluations of a step
NODES = 32  # of adams, one evaluation each
ADAMS = {"likelihood": {"solver": "adams"}}
ADAMS_ONLY = {"probes", "check_items"}  # options; the other fields are of the other solvers
OTHERS_ONLY = {"rtol", "atol", "max_nfe"}
CONDITIONS = {"class": "true class", "text": "caption"}  # of an item


class LikelihoodOptions(CountOptions):
    """Solver and number of items."""

    protocol: Literal["pf-ode", "elbo"] = Field(
        "pf-ode", description="probability-flow ODE, or DDPM's variational bound"
    )
    divergence: Literal["exact", "hutchinson"] = Field(
        "hutchinson", description="trace of the Jacobian; exact is for few dimensions"
    )
    rtol: float = Field(1e-5, gt=0, description="relative tolerance of the solver")
    atol: float = Field(1e-5, gt=0, description="absolute tolerance of the solver")
    solver: Literal["dopri5", "heun", "rk4", "adams"] = Field(
        "dopri5",
        description="adaptive dopri5, fixed steps in log(sigma/a), or exponential Adams nodes",
    )
    steps: int | None = Field(
        None,
        ge=1,
        description="steps of heun (2 evaluations) or rk4 (4), or nodes of adams (1; empty: 32)",
    )
    max_nfe: int = Field(2000, ge=1, description="evaluations after which an item counts as failed")
    repeats: int = Field(1, ge=1, description="dequantisations and probes of an item")
    probes: int = Field(1, ge=1, description="probes of an item at a node of adams, on one graph")
    check_items: int = Field(
        32,
        ge=0,
        description="items of each split that adams solves again with twice the nodes; "
        "three times the evaluations of one repeat for each of them",
    )
    timesteps: int | None = Field(None, ge=2, description="terms of the bound; empty: all")


class Likelihood(Task[LikelihoodOptions]):
    """Negative log-likelihood of held-out items of D_g and D_f, one value an item.

    A class-conditional model gets the true class of each item, a text-to-image model its caption,
    both under protocols of their own.
    Items are dequantised uniformly; the value is the mean over ``repeats`` draws.
    A batch whose integration fails is bisected down to the items that fail. ``solver=adams`` fails
    item by item, costs its nodes, more of items whose flow is stiff (``adams_nll``), and draws
    fresh probes at each of them; the first ``check_items`` of each split are solved with as many
    nodes and with twice as many, the same probe throughout, and the difference is reported beside
    the NLL.
    """

    name = "likelihood"
    measures = True
    citation = "Song et al. 2021, arXiv:2011.13456, section 4.3; Ho et al. 2020, equation 5"
    presets = {"quick": {"tasks": ADAMS}, "full": {"tasks": ADAMS}}

    def skip(self, model: Model) -> str | None:
        """Latents have no density of the data."""
        if model.codec.bits_offset is None:
            return "the likelihood of latents is not that of the data: their codec has no inverse"
        return None

    def check(self, model: Model) -> None:
        """Refuse a bound without DDPM, fixed steps without a number, adaptive ones with one.

        Raises:
            OptionError: ``steps`` does not suit ``solver``.
            IncompatibleError: The bound is for discrete processes.
        """
        c = self.options
        if c.solver != "adams" and (c.solver == "dopri5") != (c.steps is None):
            raise OptionError(
                f"likelihood.solver={c.solver}, likelihood.steps={c.steps}",
                "steps with heun and rk4, none with dopri5",
            )
        if c.solver == "adams" and self.nodes < 4:
            raise OptionError(
                f"likelihood.steps={self.nodes} with likelihood.solver=adams", "4 nodes or more"
            )
        if self.options.protocol == "elbo" and not isinstance(model.process, DiscreteDDPM):
            raise IncompatibleError(
                f"the variational bound on {type(model.process).__name__}", "DDPM backbones"
            )

    @property
    def nodes(self) -> int:
        """Nodes of adams."""
        return int(self.options.steps or NODES)

    @property
    def is_adams(self) -> bool:
        """Whether exponential Adams steps solve the ODE."""
        return bool(self.options.protocol == "pf-ode" and self.options.solver == "adams")

    def cost(self, model: Model) -> Cost:
        """Terms of the bound, evaluations of fixed steps, or an assumed number of adaptive ones."""
        c = self.options
        if c.protocol == "elbo":
            return Cost(c.repeats * (c.timesteps or model.process.grid_points() or 1))
        vjps = model.dim if c.divergence == "exact" else c.probes if self.is_adams else 1
        if self.is_adams:
            nfe = self.nodes * (c.repeats + (3 if c.check_items else 0))
            return Cost(nfe, vjps, f"{self.nodes} nodes a solution; stiff items take more")
        if c.steps is not None:
            return Cost(c.repeats * c.steps * STEP_NFE[c.solver], vjps)
        assumed = min(c.max_nfe, round(ADAPTIVE_NFE * (1e-5 / c.rtol) ** 0.2))
        return Cost(
            c.repeats * assumed, vjps, f"adaptive: {assumed} evaluations a repeat are assumed"
        )

    def protocol(self, context: ModelContext) -> dict[str, Any]:
        """The options that the solver has, and the condition of a conditional model."""
        settings, track = super().protocol(context), track_of(context.model)
        for name in OTHERS_ONLY if self.is_adams else ADAMS_ONLY:
            del settings[name]
        if self.is_adams:
            settings["steps"] = self.nodes
        return settings | ({"condition": CONDITIONS[track]} if track in CONDITIONS else {})

    def total(self, context: ModelContext) -> int:
        """Number of items of both splits."""
        return sum(split_sizes(context, self.options.count))

    def draw(self, context: ModelContext, start: int, count: int) -> dict[str, Tensor]:
        """``nats [count]``: NLL in model space, infinite where the integration failed."""
        batch = items(context, self.options.count)[start : start + count]
        draws = [self.nats(context, batch, start, repeat) for repeat in range(self.options.repeats)]
        nats, nfe = zip(*draws, strict=True)
        drawn = {"nats": torch.stack(nats).mean(dim=0), "nfe": torch.stack(nfe).sum(dim=0).cpu()}
        if self.is_adams:
            drawn["solver_error"], check_nfe = self.solver_error(context, batch, start)
            drawn["nfe"] += check_nfe.cpu()
        return drawn

    def solver_error(
        self, context: ModelContext, batch: Examples, start: int
    ) -> tuple[Tensor, Tensor]:
        """|difference| ``[N]`` in nats between as many nodes and twice as many, and evaluations.

        -1 and 0: not checked. Both have the same dequantisation and one probe an item, so that the
        solver alone differs; infinite where an integration failed.
        """
        nfe = torch.zeros(len(batch), dtype=torch.int64, device=context.device)
        error = torch.full((len(batch),), -1.0, dtype=torch.float64, device=context.device)
        sizes = split_sizes(context, self.options.count)
        for first, size in zip((0, sizes[0]), sizes, strict=True):
            low = max(first, start)
            high = min(first + min(size, self.options.check_items), start + len(batch))
            if low < high:
                part = slice(low - start, high - start)
                coarse, fine = (
                    self.solve(context, batch[part], low, 0, nodes, fresh_probes=False)
                    for nodes in (self.nodes, 2 * self.nodes)
                )
                error[part] = (coarse.nats - fine.nats).abs().nan_to_num(nan=torch.inf)
                nfe[part] = coarse.item_nfe + fine.item_nfe
        return error, nfe

    def nats(
        self, context: ModelContext, batch: Examples, start: int, repeat: int
    ) -> tuple[Tensor, Tensor]:
        """NLL of one dequantisation in nats ``[N]``, and the network evaluations of each item."""
        nll = self.solve(context, batch, start, repeat, self.nodes)
        return nll.nats, nll.item_nfe

    def solve(
        self,
        context: ModelContext,
        batch: Examples,
        start: int,
        repeat: int,
        nodes: int,
        fresh_probes: bool = True,
    ) -> NegativeLogLikelihood:
        """NLL of one dequantisation; ``nodes`` and ``fresh_probes`` are those of adams."""
        c, model = self.options, context.model
        seed = derive_seed(context.seed, "likelihood", repeat)
        noise = Noise(seed, start, len(batch), context.device)
        u = noise.uniform(model.shape) if model.codec.dequantised else None
        z, condition = model.codec.encode(batch.x, u), condition_of(model, batch)
        if c.protocol == "elbo":
            assert isinstance(model.process, DiscreteDDPM)
            return elbo_nll(
                model.eps_fn, model.process, z, noise, condition=condition, timesteps=c.timesteps
            )
        problem = (model.eps_fn, model.process, z, noise)
        if self.is_adams:
            return adams_nll(
                *problem,
                condition=condition,
                divergence=c.divergence,
                nodes=nodes,
                probes=c.probes,
                fresh_probes=fresh_probes,
            )
        return ode_nll(
            *problem,
            condition=condition,
            divergence=c.divergence,
            rtol=c.rtol,
            atol=c.atol,
            solver=c.solver,
            steps=c.steps,
            max_nfe=c.max_nfe,
        )


def condition_of(model: Model, batch: Examples) -> Tensor | None:
    """The class or the caption of each item ``int64 [N]``; None for an unconditional model."""
    conditions = {"class": batch.y, "text": batch.c}
    return conditions.get(track_of(model))


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Likelihood."""
    return [Likelihood]
