"""-log p(x) by the probability flow ODE."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from msgm_bench.diffusion.bisection import IntegrationFailure, solve_bisecting
from msgm_bench.diffusion.divergence import Divergence, exact, hutchinson
from msgm_bench.diffusion.noise import Noise
from msgm_bench.diffusion.noise_prediction import ConditionalEpsFn, CountedEps, EpsFn
from msgm_bench.diffusion.process import Process
from msgm_bench.errors import OptionError

SOLVERS = {"dopri5": "dopri5", "heun": "heun2", "rk4": "rk4"}
FIRST_STEP = 0.01
"""dopri5's first step as a share of the range of u; fixed, so that it depends on no batch."""
TORCHDIFFEQ_FAILURES = ("underflow in dt", "non-finite values in state")


@dataclass(frozen=True)
class Likelihood:
    """Negative log-likelihoods.

    Attributes:
        nats: -log p(x) [N], float64; inf where it failed.
        failed: Which items failed [N], bool.
        nfe: Calls of eps_hat, those of failed attempts included.
        reasons: Why, for each failed item's index.
        evaluations: Network evaluations of each item [N]; None: ``nfe`` of each.
    """

    nats: Tensor
    failed: Tensor
    nfe: int
    reasons: dict[int, str] = field(default_factory=dict)
    evaluations: Tensor | None = None

    @property
    def item_nfe(self) -> Tensor:
        """Network evaluations of each item, ``int64 [N]``."""
        if self.evaluations is not None:
            return self.evaluations
        return torch.full((len(self.nats),), self.nfe, device=self.nats.device)


def bits_per_dim(nats: Tensor, dim: int, offset: float = 0.0) -> Tensor:
    """Return nats / (dim log 2) + offset; offset = log2(1 / bin width) for quantised data."""
    return nats / (dim * math.log(2)) + offset


@dataclass(frozen=True)
class Tolerance:
    """How the ODE is solved: adaptive dopri5, or `steps` fixed steps of heun or rk4."""

    rtol: float
    atol: float
    solver: str
    steps: int | None
    max_nfe: int

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            OptionError: if an option is out of range.
        """
        if self.solver not in SOLVERS:
            raise OptionError(f"solver={self.solver!r}", ", ".join(SOLVERS))
        if (self.solver == "dopri5") != (self.steps is None):
            raise OptionError(
                f"solver={self.solver!r}, steps={self.steps}",
                "steps with heun and rk4, none with dopri5",
            )
        if self.rtol <= 0 or self.atol <= 0 or self.max_nfe < 1 or (self.steps or 1) < 1:
            raise OptionError(
                f"rtol={self.rtol}, atol={self.atol}, max_nfe={self.max_nfe}, steps={self.steps}",
                "all positive",
            )

    def integrate(
        self, flow: Callable[[Tensor, Tensor], Tensor], y: Tensor, ends: Tensor
    ) -> Tensor:
        """Return y [N, D+1] at the second of the two `ends`.

        Raises:
            IntegrationFailure: if the solver gives up.
        """
        from torchdiffeq import odeint  # takes a second, which other commands need not pay

        # step_t: the last step lands on the end, so that eps_hat never sees a time beyond T
        first = float(ends[1] - ends[0]) * FIRST_STEP
        options: dict[str, Any] = {"norm": worst_item, "step_t": ends[1:], "first_step": first}
        if self.steps is not None:
            grid = torch.linspace(
                ends[0], ends[1], self.steps + 1, dtype=ends.dtype, device=ends.device
            )
            options = {"grid_constructor": lambda *_: grid}
        try:
            path: Tensor = odeint(
                flow, y, ends, rtol=self.rtol, atol=self.atol,
                method=SOLVERS[self.solver], options=options,
            )  # fmt: skip
        except AssertionError as error:
            if not str(error).startswith(TORCHDIFFEQ_FAILURES):
                raise
            raise IntegrationFailure(str(error).partition(":")[0]) from error
        return path[-1]


def worst_item(y: Tensor) -> Tensor:
    """Return max over items of max(rms of the state, |log p| / D): no item hides in a batch.

    Args:
        y: An error divided by its tolerance, [N, D+1] with log p / D last.
    """
    y = y.abs()
    return torch.maximum(y[:, :-1].square().mean(1).sqrt(), y[:, -1]).max()


@dataclass(frozen=True)
class Flow:
    """The right-hand side of d xbar/du = sbar eps_hat, d logp/du = -sbar a div_x eps_hat.

    u = log sbar; the state is [N, D+1], xbar and (log p) / D.
    """

    eps: CountedEps
    process: Process
    divergence: Divergence
    like: Tensor
    last_nfe: int

    def __call__(self, u: Tensor, y: Tensor) -> Tensor:
        """Return dy/du.

        Raises:
            IntegrationFailure: if the budget is spent or a value is not finite.
        """
        if self.eps.nfe >= self.last_nfe:
            raise IntegrationFailure("max_nfe exceeded")
        sbar = torch.exp(u)
        t = self.process.t_from_noise_to_signal(sbar)
        a, _ = self.process.marginal(t)
        x = (a * y[:, :-1]).reshape(-1, *self.like.shape[1:]).to(self.like.dtype)
        eps_hat, div = self.divergence(self.eps, x, t)
        d_xbar = sbar * eps_hat.flatten(1).to(y.dtype)
        d_logp = -sbar * a * div.to(y.dtype) / d_xbar.shape[1]
        dy = torch.cat([d_xbar, d_logp[:, None]], 1)
        if not bool(torch.isfinite(dy).all()):
            raise IntegrationFailure("eps_hat or its divergence is not finite")
        return dy


def ode_nll(
    eps: EpsFn | ConditionalEpsFn,
    process: Process,
    x: Tensor,
    noise: Noise,
    *,
    condition: Tensor | None = None,
    divergence: Literal["exact", "hutchinson"] = "exact",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    solver: str = "dopri5",
    steps: int | None = None,
    max_nfe: int = 2000,
) -> Likelihood:
    """-log p(x) [N] in nats of the model's density at t_min, by the probability flow ODE.

    With xbar = x / a, sbar = sigma / a and u = log sbar from sbar(t_min) to sbar(T):
    d xbar/du = sbar eps_hat, d log p/du = -sbar a div_x eps_hat, and
    log p(x) = prior_logp(a_T xbar_T) + D log a_T - D log a_{t_min} - int (d log p/du) du.
    The state is float64, eps_hat is evaluated in x's dtype.  The error control takes the worst
    item of the batch; a batch that fails is bisected down to the items that fail, and the others
    are then solved together, as if the failed ones had never been there.

    Args:
        eps: The noise predictor; called on subsets of the batch when an item fails.
        process: The forward process that eps was trained on.
        x: Items, shape [N, *item_shape].
        noise: The source of one Rademacher probe an item, used by 'hutchinson' only.
        condition: Condition of each item [N], for -log p(x | condition); None: -log p(x).
        divergence: 'exact' (D backward passes an evaluation) or 'hutchinson' (one).
        rtol: Relative tolerance of dopri5, on xbar and on (log p) / D.
        atol: Absolute tolerance of dopri5, on the same.
        solver: 'dopri5' (adaptive), 'heun' or 'rk4' (fixed steps, even in u).
        steps: Number of steps of 'heun' and 'rk4'.
        max_nfe: Evaluations allowed to one attempt.

    Raises:
        OptionError: if an option is out of range.

    Source: Song et al. 2021, Eq. 13 and 39-40, in the variables of Karras et al. 2022.
    """
    tolerance = Tolerance(rtol, atol, solver, steps, max_nfe)
    if divergence not in ("exact", "hutchinson"):
        raise OptionError(f"divergence={divergence!r}", "'exact' or 'hutchinson'")
    x = x.detach()
    shape = tuple(x.shape[1:])
    probe = noise.rademacher(shape).to(x) if divergence == "hutchinson" else None
    counted = CountedEps(eps)

    def attempt(index: Tensor) -> Tensor:
        counted.condition = None if condition is None else condition[index]
        div = exact if probe is None else hutchinson(probe[index])
        flow = Flow(counted, process, div, x, counted.nfe + max_nfe)
        return _nll(flow, x[index], tolerance)

    with torch.no_grad():
        nats, reasons = solve_bisecting(attempt, x.shape[0], x.device)
    return Likelihood(nats, torch.isinf(nats), counted.nfe, reasons)


def _nll(flow: Flow, x: Tensor, tolerance: Tolerance) -> Tensor:
    """Solve one batch, all or nothing."""
    process, D = flow.process, x[0].numel()
    t = torch.tensor([process.t_min, process.T], dtype=torch.float64, device=x.device)
    a, _ = process.marginal(t)
    xbar = x.flatten(1).double() / a[0]
    y = torch.cat([xbar, torch.zeros_like(xbar[:, :1])], 1)
    y = tolerance.integrate(flow, y, torch.log(process.noise_to_signal(t)))
    prior = process.prior_logp(a[1] * y[:, :-1])
    return -(prior + D * (torch.log(a[1]) - torch.log(a[0]) - y[:, -1]))
