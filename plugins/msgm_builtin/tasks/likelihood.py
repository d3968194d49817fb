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
    derive_seed,
    elbo_nll,
    hookimpl,
    ode_nll,
)
from msgm_builtin.tasks.held_out_items import items, sizes

ADAPTIVE = 150  # evaluations of dopri5 at rtol = 1e-5, of order 5: as rtol^(-1/5) elsewhere
EVALUATIONS = {"heun": 2, "rk4": 4}  # of a step
CONDITION = "true class"  # what a class-conditional model is told


class LikelihoodOptions(CountOptions):
    """Solver and sizes."""

    protocol: Literal["pf-ode", "elbo"] = Field(
        "pf-ode", description="probability-flow ODE, or DDPM's variational bound"
    )
    divergence: Literal["exact", "hutchinson"] = Field(
        "hutchinson", description="trace of the Jacobian; exact is for few dimensions"
    )
    rtol: float = Field(1e-5, gt=0, description="relative tolerance of the solver")
    atol: float = Field(1e-5, gt=0, description="absolute tolerance of the solver")
    solver: Literal["dopri5", "heun", "rk4"] = Field(
        "dopri5", description="adaptive dopri5, or fixed steps in log(sigma/a)"
    )
    steps: int | None = Field(None, ge=1, description="steps of heun (2 evaluations) or rk4 (4)")
    max_nfe: int = Field(2000, ge=1, description="evaluations after which an item has failed")
    repeats: int = Field(1, ge=1, description="dequantisations and probes an item")
    timesteps: int | None = Field(None, ge=2, description="terms of the bound; empty: all")


class Likelihood(Task[LikelihoodOptions]):
    """Negative log-likelihood of held-out items of D_g and D_f, one value an item.

    A class-conditional model is told the true class of each item, under protocols of their own.
    Items are dequantised uniformly; with ``repeats`` the value is the mean over as many draws.
    A batch whose integration fails is bisected down to the items that fail.
    """

    name = "likelihood"
    measures = True
    citation = "Song et al. 2021, arXiv:2011.13456, section 4.3; Ho et al. 2020, equation 5"

    def check(self, model: Model) -> None:
        """The bound is DDPM's; fixed steps have a number, adaptive ones none."""
        c = self.options
        if (c.solver == "dopri5") != (c.steps is None):
            raise OptionError(
                f"likelihood.solver={c.solver}, likelihood.steps={c.steps}",
                "steps with heun and rk4, none with dopri5",
            )
        if self.options.protocol == "elbo" and not isinstance(model.process, DiscreteDDPM):
            raise IncompatibleError(
                f"the variational bound on {type(model.process).__name__}", "DDPM backbones"
            )

    def cost(self, model: Model) -> Cost:
        """Terms of the bound, fixed steps, or what the adaptive solver is assumed to take."""
        c = self.options
        if c.protocol == "elbo":
            return Cost(c.repeats * (c.timesteps or model.process.grid_points() or 1))
        vjps = model.dim if c.divergence == "exact" else 1
        if c.steps is not None:
            return Cost(c.repeats * c.steps * EVALUATIONS[c.solver], vjps)
        assumed = min(c.max_nfe, round(ADAPTIVE * (1e-5 / c.rtol) ** 0.2))
        return Cost(c.repeats * assumed, vjps, f"adaptive, {assumed} a repeat are assumed")

    def protocol(self, context: ModelContext) -> dict[str, Any]:
        """The options, and what the model is told if it is told anything."""
        told = {} if context.model.classes is None else {"condition": CONDITION}
        return super().protocol(context) | told

    def total(self, context: ModelContext) -> int:
        """Items of both splits, retain first."""
        return sum(sizes(context, self.options.count))

    def draw(self, context: ModelContext, start: int, count: int) -> dict[str, Tensor]:
        """``nats [count]``: model-space NLL, infinite where the integration failed."""
        chosen = items(context, self.options.count)[start : start + count]
        draws = [
            self.nats(context, chosen, start, repeat) for repeat in range(self.options.repeats)
        ]
        nats, nfe = zip(*draws, strict=True)
        return {"nats": torch.stack(nats).mean(dim=0), "nfe": torch.full((count,), sum(nfe))}

    def nats(
        self, context: ModelContext, chosen: Examples, start: int, repeat: int
    ) -> tuple[Tensor, int]:
        """NLL of one dequantisation ``[N]``, and the network evaluations of the batch."""
        c, model = self.options, context.model
        seed = derive_seed(context.seed, "likelihood", repeat)
        noise = Noise(seed, start, len(chosen), context.device)
        u = noise.uniform(model.shape) if model.codec.dequantised else None
        z = model.codec.encode(chosen.x, u)
        y = None if model.classes is None else chosen.y
        if c.protocol == "elbo":
            assert isinstance(model.process, DiscreteDDPM)
            found = elbo_nll(
                model.eps_fn, model.process, z, noise, condition=y, timesteps=c.timesteps
            )
        else:
            found = ode_nll(
                model.eps_fn,
                model.process,
                z,
                noise,
                condition=y,
                divergence=c.divergence,
                rtol=c.rtol,
                atol=c.atol,
                solver=c.solver,
                steps=c.steps,
                max_nfe=c.max_nfe,
            )
        return found.nats, found.nfe


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Likelihood."""
    return [Likelihood]
