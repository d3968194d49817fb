"""Bisection of batches in which single items fail."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


class IntegrationFailure(Exception):  # noqa: N818 - an outcome, never shown to a user
    """A batch has no solution as a whole; the message is the reason."""


def solve_bisecting(
    attempt: Callable[[Tensor], Tensor], count: int, device: torch.device
) -> tuple[Tensor, dict[int, str]]:
    """Solve items 0..count-1, halving every batch that fails until single items fail.

    The items that did not fail are then solved once more as one batch, so that their values
    depend on which items fail and on nothing else.

    Args:
        attempt: Values [n] of the items of an index [n]; raises IntegrationFailure if one fails.
        count: The number of items.
        device: Where index and values live.

    Returns:
        Values [count], float64, inf where failed, and the reason for each failed item.
    """
    values = torch.full((count,), math.inf, dtype=torch.float64, device=device)
    reasons: dict[int, str] = {}
    batches = [torch.arange(count, device=device)] if count else []
    while batches:
        batch = batches.pop()
        try:
            values[batch] = attempt(batch)
        except IntegrationFailure as failure:
            if len(batch) == 1:
                reasons[int(batch)] = str(failure)
            else:
                batches.extend(batch.chunk(2))
    _resolve(attempt, values, reasons)
    for item in torch.nonzero(~torch.isfinite(values)).flatten().tolist():
        values[item] = math.inf
        reasons.setdefault(item, "the likelihood is not finite")
    return values, dict(sorted(reasons.items()))


def _resolve(attempt: Callable[[Tensor], Tensor], values: Tensor, reasons: dict[int, str]) -> None:
    """Solve all items without a reason once more as one batch; on failure their values stay."""
    is_solved = torch.ones_like(values, dtype=torch.bool)
    is_solved[list(reasons)] = False
    rest = torch.nonzero(is_solved).flatten()
    if not reasons or not len(rest):
        return
    try:
        values[rest] = attempt(rest)
    except IntegrationFailure:
        return
