"""Labels of classes and captions as tensors."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def label_tensor(labels: tuple[int, ...], device: torch.device) -> Tensor:
    """``labels`` as ``int64 [K]`` on ``device``, to be read only.

    One copy for all steps: the host waits for the device at each.
    """
    return torch.tensor(labels, device=device)
