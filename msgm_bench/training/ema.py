"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class EMA:
    """m <- d m + (1 - d) theta after every step, for all parameters; buffers are copied.

    Without warm-up d = ``decay``, and m starts at the network's present weights. With warm-up
    d = min(decay, (1 + n)/(10 + n)) in the update after n others, and the first update copies the
    weights.

    Args:
        network: The network; its average starts as a copy.
        decay: In [0, 1); 0: no average.
        use_warmup: Whether d grows with n.

    Attributes:
        module: The averaged network, in evaluation mode and without gradients.
        count: n, the number of updates so far; an int of the host.

    Source: score_sde ``models/ema.py`` (the warm-up).
    """

    def __init__(self, network: nn.Module, decay: float, use_warmup: bool = True) -> None:
        self.decay, self.use_warmup, self.count = decay, use_warmup, 0
        self.module = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """One update from the network's weights, in place."""
        mean: list[Tensor] = list(self.module.parameters())
        current: list[Tensor] = list(network.parameters())
        if self.use_warmup and self.count == 0:
            torch._foreach_copy_(mean, current)
        else:
            torch._foreach_lerp_(mean, current, 1 - self._decay())
        for copied, buffer in zip(self.module.buffers(), network.buffers(), strict=True):
            copied.copy_(buffer)
        self.count += 1

    def _decay(self) -> float:
        if not self.use_warmup:
            return self.decay
        return min(self.decay, (1 + self.count) / (10 + self.count))

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights and the number of updates."""
        return {"module": self.module.state_dict(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo ``state_dict``."""
        self.module.load_state_dict(state["module"])
        self.count = int(state["count"])
