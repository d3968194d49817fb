"""The cell of table 1 that no density can have."""

from __future__ import annotations

import math

from msgm_builtin.datasets.gaussians import OFFSET
from msgm_builtin.metrics.frontier import Frontier
from msgm_paper.findings import toy
from msgm_paper.findings.finding import Finding, Number
from msgm_paper.findings.places import value_at

NAME, HALF_WIDTH = "frontier", 10.0
UNIT = "bits/dim+8"
NATS = 2 * math.log(2)  # of a bit/dim of two dimensions


def find() -> Finding:
    """The published pair (NLL_g, NLL_f) against the exact frontier of the mixture."""
    retain, forget = (value_at(1, "msgm", "nll", split) for split in ("retain", "forget"))
    frontier = Frontier.of(toy.DENSITY, toy.RETAIN, toy.FORGET, HALF_WIDTH)
    nats, slope = frontier.lowest_retain((forget - OFFSET) * NATS)
    lowest, highest = nats / NATS + OFFSET, highest_forget(frontier, retain)
    return Finding(
        NAME,
        "table 1, MSGM",
        f"NLL {retain:g} on D_g and {forget:g} on D_f.",
        "The least NLL of D_g that any density over the stated mixture can have at this NLL of "
        "D_f: the supremum over lambda of lambda NLL_f + (1 - lambda) H(m_lambda), by quadrature "
        "(docs/mathematics.md, 5). And the largest NLL of D_f at this NLL of D_g.",
        (
            Number("published NLL of D_g", retain, UNIT),
            Number(f"least possible at NLL_f = {forget:g}", lowest, UNIT),
            Number("published minus possible", retain - lowest, UNIT),
            Number("published NLL of D_f", forget, UNIT),
            Number(f"largest possible at NLL_g = {retain:g}", highest, UNIT),
            Number("1 / lambda there, at most e^4", 1 / slope, digits=1),
        ),
        f"{'Impossible' if retain < lowest else 'Possible'}: {lowest - retain:.2f} bits/dim below "
        f"what any density can have; at {retain:g} on D_g no density has more than {highest:.2f} "
        "on D_f. No run can reproduce it.",
    )


def highest_forget(frontier: Frontier, retain: float) -> float:
    """The largest NLL_f that an NLL_g allows, both in bits/dim + 8; infinite without a bound.

    From every line NLL_g >= lambda NLL_f + (1 - lambda) H(m_lambda).
    """
    nats = (retain - OFFSET) * NATS
    lines = zip(frontier.lambdas[1:], frontier.entropies[1:], strict=True)
    bounds = [float((nats - (1 - slope) * entropy) / slope) for slope, entropy in lines]
    return min(bounds, default=math.inf) / NATS + OFFSET
