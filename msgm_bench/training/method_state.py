"""The state of networks and optimisers that a method registers, in checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from msgm_bench.errors import StorageError


def stored_state(part: nn.Module | Optimizer, networks: Iterable[nn.Module]) -> dict[str, Any]:
    """The state of ``part``, without the tensors that it shares with ``networks``, frozen there."""
    return dict(part.state_dict()) if isinstance(part, Optimizer) else _own(part, networks)


def load_stored_state(
    part: nn.Module | Optimizer, state: dict[str, Any], networks: Iterable[nn.Module]
) -> None:
    """Undo ``stored_state``.

    Raises:
        StorageError: ``state`` has other tensors than ``part``.
    """
    if isinstance(part, Optimizer):
        part.load_state_dict(state)
        return
    own = _own(part, networks)
    if set(own) != set(state):
        names = ", ".join(sorted(set(own) ^ set(state))[:3])
        raise StorageError(f"a state of the checkpoint differs from the method's in {names}")
    part.load_state_dict(state, strict=False)


def _own(part: nn.Module, networks: Iterable[nn.Module]) -> dict[str, Tensor]:
    shared = {id(p) for network in networks for p in network.parameters() if not p.requires_grad}
    state = part.state_dict(keep_vars=True)
    return {name: tensor.detach() for name, tensor in state.items() if id(tensor) not in shared}
