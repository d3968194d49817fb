"""Classes of D_g in the place of forgotten ones."""

from __future__ import annotations

import torch
from torch import Tensor

from msgm_bench import Session


def random_retain_class(session: Session, step: int, loop: str) -> int:
    """One class of D_g for a whole batch, uniform."""
    u = session.noise("class", loop, step, count=1).uniform(())
    return session.retain_labels[int(u * len(session.retain_labels))]


def random_retain_classes(session: Session, step: int, y: Tensor) -> Tensor:
    """A class of D_g for each item, uniform, ``int64 [N]``."""
    retain = torch.tensor(session.retain_labels, device=y.device)
    u = session.noise("class", step, count=len(y)).uniform(())
    return retain[(u * len(retain)).long()]


def next_retain_classes(session: Session, y: Tensor) -> Tensor:
    """The first class of D_g after each of ``y``, past the last one the first, ``int64 [N]``."""
    retain = torch.tensor(session.retain_labels, device=y.device)
    K = session.model.null(len(y), y.device)
    return retain[((retain - y[:, None] - 1) % K[:, None]).argmin(dim=1)]
