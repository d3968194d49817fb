"""Vectors ``[P]`` of all trainable weights and of their gradients; copies of models."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor

from msgm_bench import Model


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


def copy_sharing_frozen(model: Model) -> Model:
    """A copy that trains the same parameters and shares all others with ``model``."""
    frozen = {id(p): p for p in model.network.parameters() if not p.requires_grad}
    return copy.deepcopy(model, {id(model.codec): model.codec, **frozen})


def trained_parameters(model: Model) -> list[Tensor]:
    """The parameters of ``model`` that are trained."""
    return [p for p in model.network.parameters() if p.requires_grad]


def matching_parameters(base: Model, model: Model) -> list[Tensor]:
    """The parameters of ``base`` that ``model`` trains."""
    names = (name for name, p in model.network.named_parameters() if p.requires_grad)
    return [base.network.get_parameter(name) for name in names]
