"""The exponential moving average of a network's weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class EMA:
    """m <- d m + (1 - d) theta after every step, for all that is trained; buffers are copied.

    Without warm-up d = ``decay``, and m starts at the network's present weights. With warm-up
    d = min(decay, (1 + n)/(10 + n)) in the update after n others, and the first update copies the
    weights.

    Args:
        network: The network; the average of its parameters with gradients starts as a copy.
        decay: In [0, 1); 0: no average.
        use_warmup: Whether d grows with n.

    Attributes:
        parameters: The averages by name.
        buffers: The last buffers by name.
        count: n, the number of updates so far; an int of the host.

    Source: score_sde ``models/ema.py`` (the warm-up).
    """

    def __init__(self, network: nn.Module, decay: float, use_warmup: bool = True) -> None:
        self.decay, self.use_warmup, self.count = decay, use_warmup, 0
        current = trained(network)
        self._current = list(current.values())
        self.parameters = {name: p.detach().clone() for name, p in current.items()}
        self.buffers = {name: buffer.clone() for name, buffer in stored_buffers(network).items()}
        places = buffer_places(network)
        self._places = [places[name] for name in self.buffers]

    @torch.no_grad()
    def update(self, weight: Tensor | None = None) -> None:
        """One update from the network's weights, in place.

        Args:
            weight: Memory that has ``weight`` of each update, for those that are replayed.
        """
        mean = list(self.parameters.values())
        if weight is not None:
            torch._foreach_lerp_(mean, self._current, [weight] * len(mean))
        elif self.weight == 1:
            torch._foreach_copy_(mean, self._current)
        else:
            torch._foreach_lerp_(mean, self._current, self.weight)
        if self.buffers:
            current = [buffers[key] for buffers, key in self._places]
            torch._foreach_copy_(list(self.buffers.values()), current)
        self.count += 1

    @property
    def weight(self) -> float:
        """1 - d of the next update; 1, a copy, in the first one of a warm-up."""
        if not self.use_warmup:
            return 1 - self.decay
        return 1 - min(self.decay, (1 + self.count) / (10 + self.count)) if self.count else 1.0

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Averages and buffers by name."""
        return self.parameters | self.buffers

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights and the number of updates."""
        return {"weights": self.tensors, "count": self.count}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo ``state_dict``.

        Raises:
            KeyError: ``state`` lacks a tensor.
        """
        for name, tensor in self.tensors.items():
            tensor.copy_(state["weights"][name])
        self.count = int(state["count"])


def trained(network: nn.Module) -> dict[str, Tensor]:
    """The network's parameters with gradients, by name."""
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def stored_buffers(network: nn.Module) -> dict[str, Tensor]:
    """The network's buffers that are a part of its state, by name."""
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    state = network.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in state.items() if name not in parameters}


def buffer_places(network: nn.Module) -> dict[str, tuple[dict[str, Any], str]]:
    """Where the network's modules have their buffers: a table and a key in it, by full name.

    Reading there is what is left of the time of ``stored_buffers``, which walks the network.
    """
    return {
        f"{prefix}.{key}" if prefix else key: (module._buffers, key)
        for prefix, module in network.named_modules(remove_duplicate=False)
        for key in module._buffers
    }
