"""Likelihood of held-out items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import (
    Cost,
    DiscreteDDPM,
    IncompatibleError,
    Model,
    Noise,
    OptionError,
    Subject,
    Task,
    TaskConfig,
    bound_nll,
    derive_seed,
    hookimpl,
    ode_nll,
)
from msgm_metrics.held_out import items, sizes

ADAPTIVE = 150  # evaluations of dopri5 at rtol = 1e-5, of order 5: as rtol^(-1/5) elsewhere


class Likelihood(Task):
    """Negative log-likelihood of held-out items of D_g and D_f, one value an item.

    Items are dequantised uniformly; with ``repeats`` the value is the mean over as many draws.
    A batch whose integration fails is bisected down to the items that fail.
    """

    name = "likelihood"
    citation = "Song et al. 2021, arXiv:2011.13456, section 4.3; Ho et al. 2020, equation 5"

    class Config(TaskConfig):
        """Solver and sizes."""

        protocol: Literal["pf-ode", "bound"] = Field(
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
        steps: int | None = Field(
            None, ge=1, description="steps of heun (2 evaluations) or rk4 (4)"
        )
        max_nfe: int = Field(2000, ge=1, description="evaluations after which an item has failed")
        repeats: int = Field(1, ge=1, description="dequantisations and probes an item")
        timesteps: int | None = Field(None, ge=2, description="terms of the bound; empty: all")

    def check(self, model: Model) -> None:
        """The bound is DDPM's; fixed steps have a number, adaptive ones none."""
        c = self.config
        if (c.solver == "dopri5") != (c.steps is None):
            raise OptionError(
                f"likelihood.solver={c.solver}, likelihood.steps={c.steps}",
                "steps with heun and rk4, none with dopri5",
            )
        if self.config.protocol == "bound" and not isinstance(model.process, DiscreteDDPM):
            raise IncompatibleError(
                f"the variational bound on {type(model.process).__name__}", "DDPM backbones"
            )

    def cost(self, model: Model) -> Cost:
        """Terms of the bound, or what the adaptive solver is assumed to take, a repeat."""
        c = self.config
        if c.protocol == "bound":
            return Cost(c.repeats * (c.timesteps or model.process.grid_points() or 1))
        assumed = min(c.max_nfe, round(ADAPTIVE * (1e-5 / c.rtol) ** 0.2))
        vjps = model.dim if c.divergence == "exact" else 1
        return Cost(c.repeats * assumed, vjps, f"adaptive, {assumed} a repeat are assumed")

    def total(self, subject: Subject) -> int:
        """Items of both splits, retain first."""
        return sum(sizes(subject, self.config.count))

    def draw(self, subject: Subject, start: int, count: int) -> dict[str, Tensor]:
        """``nats [count]``: model-space NLL, infinite where the integration failed."""
        x = items(subject, self.config.count)[start : start + count]
        draws = [self.nats(subject, x, start, repeat) for repeat in range(self.config.repeats)]
        nats, nfe = zip(*draws, strict=True)
        return {"nats": torch.stack(nats).mean(dim=0), "nfe": torch.full((count,), sum(nfe))}

    def nats(self, subject: Subject, x: Tensor, start: int, repeat: int) -> tuple[Tensor, int]:
        """NLL of one dequantisation ``[N]``, and the network evaluations of the batch."""
        c, model = self.config, subject.model
        noise = Noise(
            derive_seed(subject.seed, "likelihood", repeat), start, len(x), subject.device
        )
        u = noise.uniform(model.shape) if model.codec.dequantised else None
        z = model.codec.encode(x, u)
        if c.protocol == "bound":
            assert isinstance(model.process, DiscreteDDPM)
            found = bound_nll(model.forward_eps, model.process, z, noise, timesteps=c.timesteps)
        else:
            found = ode_nll(
                model.forward_eps,
                model.process,
                z,
                noise,
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
