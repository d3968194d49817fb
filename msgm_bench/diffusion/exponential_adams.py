"""Exponential Adams steps of the probability flow ODE, with one evaluation at each node."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from msgm_bench.diffusion.exponential_weights import exponential_weights

ORDER = 4
TOLERANCE = 0.1
"""Largest sum of corrections of steps that are stable (``Corrections``)."""
Correction = Callable[[float, Tensor], None]
"""Called at each node after the first with u, and y as corrected less y as predicted."""


@dataclass
class History:
    """What was evaluated at the last nodes, the latest last.

    Attributes:
        order: How many nodes are remembered.
        u: log(sigma/a) of each.
        slopes: dy/du e^-u at each, such as eps_hat, ``[N, ...]``.
    """

    order: int = ORDER
    u: list[float] = field(default_factory=list)
    slopes: list[Tensor] = field(default_factory=list)

    def add(self, u: float, slope: Tensor) -> None:
        """Append a node, and forget what is before the last ``order``."""
        self.u = [*self.u[1 - self.order :], u]
        self.slopes = [*self.slopes[1 - self.order :], slope]

    def step(self, low: float, high: float) -> Tensor:
        """int_low^high e^u p(u) du, p the polynomial through the nodes."""
        weights = exponential_weights(self.u, low, high, 1.0)
        terms = [w * slope for w, slope in zip(weights, self.slopes, strict=True)]
        return math.exp(high) * torch.stack(terms).sum(0)


class Corrections:
    """Sum over the nodes of each item's corrections, which tells unstable steps from stable ones.

    A correction of xbar counts as its rms over dimensions, over sqrt(1 + (sigma/a)^2). Of flows
    that the steps follow the sum is 0.02 to 0.05 at 32 nodes, of others 0.1 and more.

    Attributes:
        total: The sums, float64 [N].
    """

    def __init__(self, like: Tensor) -> None:
        """Start at zero for each item of ``like``."""
        self.total = torch.zeros(len(like), dtype=torch.float64, device=like.device)

    def __call__(self, u: float, change: Tensor) -> None:
        """Add a correction of xbar [N, ...] at u."""
        rms = change.double().flatten(1).square().mean(1).sqrt()
        self.total += rms / math.sqrt(1 + math.exp(2 * u))

    @property
    def are_unstable(self) -> Tensor:
        """Which items' steps are unstable, bool [N]."""
        return self.total > TOLERANCE


def adams_flow(
    slope: Callable[[Tensor, float], Tensor],
    y: Tensor,
    us: Sequence[float],
    order: int = ORDER,
    on_correction: Correction | None = None,
) -> Tensor:
    """y at the last of ``us``, of dy/du = e^u f(y, u) from y at the first of them.

    A step is predicted with f as the polynomial in u through the last ``order`` nodes, e^u
    integrated exactly; f is evaluated once at its end; and the step is made again through the new
    node and those before it. The first steps, which have fewer nodes, leave an error of third order
    where e^u is small. The last node is evaluated, too. The lower the order, the stiffer a flow may
    be before steps of a given length are unstable.

    Args:
        slope: f(y, u), one evaluation of the network.
        y: State, ``[N, ...]``.
        us: Nodes, monotone: upwards is the way to T.
        order: Nodes of the polynomial, 2 to 4.
        on_correction: Called with each correction.

    Source: Hochbruck and Ostermann 2010, section 2.5; Zhang and Chen 2023, arXiv:2204.13902,
    equation 15, with a corrector as in Zhao et al. 2023, arXiv:2302.04867.
    """
    history, before = History(order), y
    for i, u in enumerate(us):
        history.add(u, slope(y, u))
        if i:
            predicted, y = y, before + history.step(us[i - 1], u)
            if on_correction is not None:
                on_correction(u, y - predicted)
        before = y
        if i + 1 < len(us):
            y = y + history.step(u, us[i + 1])
    return y
