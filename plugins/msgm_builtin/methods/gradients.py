"""Vectors ``[P]`` of all trainable weights, and of their gradients."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """All entries, one tensor after another, ``[P]``."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def clip_norm(gradient: Tensor, max_norm: float | None) -> Tensor:
    """``gradient [P]``, scaled down to ``max_norm`` where it is longer."""
    return gradient if max_norm is None else gradient * (max_norm / gradient.norm()).clamp(max=1.0)


def restricted_gradient(g: Tensor, other: Tensor) -> Tensor:
    """g - min(<g, other>, 0)/|other|^2 other: ``g [P]`` without its conflict with ``other [P]``."""
    conflict = torch.dot(g, other).clamp(max=0.0)
    return g - conflict / torch.dot(other, other).clamp(min=torch.finfo(g.dtype).tiny) * other
