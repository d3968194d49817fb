"""Classifier-free guidance."""

from __future__ import annotations

from torch import Tensor


def guided(eps_c: Tensor, eps_null: Tensor, w: float | Tensor) -> Tensor:
    """Return (1 + w) eps_c - w eps_null, shape [N, *item_shape].

    Its score is that of p(x_t | c) p(c | x_t)^w up to a constant: w = 0 is
    plain conditional, w = -1 unconditional. Other authors write s = 1 + w.

    Args:
        eps_c: eps_hat of the class.
        eps_null: eps_hat of the null class, same shape.
        w: The guidance weight, or one an item in a shape that broadcasts.

    Source: Ho and Salimans 2022, arXiv:2207.12598, Eq. 6.
    """
    return (1 + w) * eps_c - w * eps_null
