"""Held-out items in the order in which tasks take them: those of D_g, then those of D_f."""

from __future__ import annotations

import torch
from torch import Tensor

from msgm_bench import Subject


def sizes(subject: Subject, count: int) -> tuple[int, int]:
    """Items of D_g and of D_f, at most ``count`` each."""
    return min(count, len(subject.retain)), min(count, len(subject.forget))


def items(subject: Subject, count: int) -> Tensor:
    """The items themselves, as the dataset holds them."""
    retain, forget = sizes(subject, count)
    return torch.cat([subject.retain.x[:retain], subject.forget.x[:forget]])
