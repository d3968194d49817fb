"""-log p(x) by exponential Adams steps of the probability flow ODE at nodes set beforehand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from msgm_bench.diffusion.divergence import exact, hutchinson_mean
from msgm_bench.diffusion.exponential_adams import ORDER, Corrections, adams_flow
from msgm_bench.diffusion.likelihood import Likelihood
from msgm_bench.diffusion.noise import Noise
from msgm_bench.diffusion.noise_prediction import ConditionalEpsFn, CountedEps, EpsFn
from msgm_bench.diffusion.ode_samplers import karras_grid
from msgm_bench.diffusion.process import Process
from msgm_bench.errors import OptionError

RHO = 7.0
STABLE_ORDER = 2  # of items whose steps are unstable at ORDER
MOST_NODES = 1024
NOT_FINITE = "eps_hat or its divergence is not finite"
UNSTABLE = f"its steps do not settle with {MOST_NODES} nodes"


@dataclass
class Trace:
    """div_x eps_hat at the nodes, exactly or from Rademacher probes.

    Attributes:
        eps: The noise predictor.
        noise: The source of the probes; None: the exact trace.
        shape: Shape of an item.
        probes: Number of probes of an item at a node, all on one graph.
        is_fresh: Whether each node has probes of its own; else those of the first node stay.
        items: Indices of the items that are solved; None: all.
    """

    eps: CountedEps
    noise: Noise | None
    shape: tuple[int, ...]
    probes: int
    is_fresh: bool
    items: Tensor | None = None
    _drawn: list[Tensor] | None = None

    def __call__(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """eps_hat ``[N, *shape]`` and its divergence ``[N]``."""
        if self.noise is None:
            return exact(self.eps, x, t)
        if self.is_fresh or self._drawn is None:
            self._drawn = [self.noise.rademacher(self.shape).to(x) for _ in range(self.probes)]
        probes = self._drawn
        if self.items is not None:  # drawn for all, so that no item's depend on who else is here
            probes = [probe[self.items] for probe in probes]
        return hutchinson_mean(probes)(self.eps, x, t)


def adams_nll(
    eps: EpsFn | ConditionalEpsFn,
    process: Process,
    x: Tensor,
    noise: Noise,
    *,
    condition: Tensor | None = None,
    divergence: Literal["exact", "hutchinson"] = "exact",
    nodes: int = 32,
    probes: int = 1,
    fresh_probes: bool = True,
) -> Likelihood:
    """-log p(x) [N] in nats of the model's density at t_min, with one evaluation at each node.

    With xbar = x / a and u = log(sigma / a) from u(t_min) to u(T):
    d xbar/du = e^u eps_hat, d log p/du = -e^u a div_x eps_hat. The nodes are even in e^(u/7), as
    Karras et al.'s. A step is predicted with eps_hat as the polynomial in u through the last four
    nodes, e^u integrated exactly; the network and its vector-Jacobian products are evaluated once
    at its end; and the step is made again through the new node and the three before it, with the
    same weights for the divergence. Exponential Adams of fourth order; the first steps, which have
    fewer nodes, leave an error of third order where e^u is small.
    The state is float64, eps_hat is evaluated in x's dtype.

    Where the flow is stiff, as of items that a model has unlearned, such steps are unstable, and
    the value is far off without an error. Their corrections tell (`Corrections`): such an item is
    solved again by steps of second order with twice the nodes, and so on up to ``MOST_NODES``,
    beyond which it fails. So is an item whose values are not finite, to which unstable steps lead,
    too. No item depends on its batch, and items fail one by one.

    Args:
        eps: The noise predictor.
        process: The forward process that eps was trained on.
        x: Items, shape [N, *item_shape].
        noise: The source of the probes, used by 'hutchinson' only.
        condition: Condition of each item [N], for -log p(x | condition); None: -log p(x).
        divergence: 'exact' (D vector-Jacobian products a node) or 'hutchinson' (``probes``).
        nodes: Number of nodes and of evaluations, at least 4, of an item whose steps settle.
        probes: Rademacher probes of an item at a node.
        fresh_probes: Whether every node draws its own, whose errors average out over the path;
            without, the result is that of one quadratic form, for comparisons of nodes.

    Raises:
        OptionError: An option is out of range.

    Source: Song et al. 2021, Eq. 13 and 39-40; Zhang and Chen 2023, arXiv:2204.13902, equation 15,
    with a corrector as in Zhao et al. 2023, arXiv:2302.04867.
    """
    if nodes < ORDER or probes < 1 or divergence not in ("exact", "hutchinson"):
        raise OptionError(
            f"nodes={nodes}, probes={probes}, divergence={divergence!r}",
            "nodes >= 4, probes >= 1, 'exact' or 'hutchinson'",
        )
    x = x.detach()
    shape = tuple(x.shape[1:])
    counted = CountedEps(eps, condition)
    source = noise if divergence == "hutchinson" else None
    trace = Trace(counted, source, shape, probes, fresh_probes)
    with torch.no_grad():
        nats, unsettled = _integrate(trace, process, x, nodes, ORDER)
        evaluations = torch.full((len(x),), nodes, device=x.device)
        while bool(unsettled.any()) and 2 * nodes <= MOST_NODES:
            nodes, items = 2 * nodes, torch.nonzero(unsettled).flatten()
            trace.items, counted.condition = items, None if condition is None else condition[items]
            nats[items], unsettled[items] = _integrate(
                trace, process, x[items], nodes, STABLE_ORDER
            )
            evaluations[items] += nodes
    failed = ~torch.isfinite(nats) | unsettled
    reasons = {
        i: UNSTABLE if math.isfinite(nats[i]) else NOT_FINITE
        for i in torch.nonzero(failed).flatten().tolist()
    }
    nats = torch.where(failed, math.inf, nats)
    return Likelihood(nats, failed, counted.nfe, reasons, evaluations)


def _integrate(
    trace: Trace, process: Process, x: Tensor, nodes: int, order: int
) -> tuple[Tensor, Tensor]:
    """-log p(x), NaN where a value was not finite on the way, and whether steps are unstable."""
    ends = torch.tensor([process.t_min, process.T], dtype=torch.float64)
    low, high = process.noise_to_signal(ends).tolist()
    us = karras_grid(low, high, nodes, RHO).log().tolist()
    a_ends, _ = process.marginal(ends)
    y = x.flatten(1).double() / a_ends[0].to(x.device)
    y = torch.cat([y, torch.zeros_like(y[:, :1])], 1)  # xbar and (log p) / D
    is_finite = torch.ones(len(y), dtype=torch.bool, device=y.device)
    corrections = Corrections(y)

    def slope(y: Tensor, u: float) -> Tensor:
        value = _slope(trace, process, y, u, x)
        is_finite.logical_and_(torch.isfinite(value).all(1))
        # an item that failed stands still: no value of its own reaches the network again
        return torch.where(is_finite[:, None], value, 0.0)

    y = adams_flow(slope, y, us, order, lambda u, change: corrections(u, change[:, :-1]))
    D = y.shape[1] - 1
    prior = process.prior_logp(a_ends[1].to(y) * y[:, :-1])
    nats = -(prior + D * (torch.log(a_ends[1] / a_ends[0]).to(y) - y[:, -1]))
    return torch.where(is_finite, nats, math.nan), ~is_finite | corrections.are_unstable


def _slope(trace: Trace, process: Process, y: Tensor, u: float, like: Tensor) -> Tensor:
    """eps_hat and -a div_x eps_hat / D at the state y [N, D + 1], without the factor e^u."""
    t = process.t_from_noise_to_signal(torch.tensor(math.exp(u), dtype=torch.float64))
    a, _ = process.marginal(t)
    x = (a.to(y) * y[:, :-1]).reshape(-1, *like.shape[1:]).to(like.dtype)
    eps_hat, div = trace(x, t)
    flat = eps_hat.flatten(1).to(y.dtype)
    return torch.cat([flat, -a.to(y) * div.to(y.dtype)[:, None] / flat.shape[1]], 1)
