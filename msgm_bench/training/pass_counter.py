"""Count of forward and backward passes through networks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import _functorch
from torch.autograd.graph import register_multi_grad_hook
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

FORWARD, BACKWARD = 1, 2


class PassCounter:
    """Counts passes: one is ``pass_items`` items forward and backward.

    Forward is a third of it, backward two: items are counted when a network has evaluated them,
    and again each time a gradient arrives at its output, however often a graph is used. Several
    losses of one backward make one arrival, and so do several outputs of one network. What
    ``torch.vmap`` computes at once counts as often as it is computed. Networks of the method's
    own count as the model does, whatever their size, and copies of counted networks count, too.

    Attributes:
        thirds: 3 ``pass_items`` times the number of passes: an integer.
        networks: The counted networks.
    """

    def __init__(self, pass_items: int) -> None:
        self.pass_items, self.thirds = pass_items, 0
        self.networks: list[nn.Module] = []
        self._handles: list[RemovableHandle] | None = None  # while counting

        # a function and no method: a deep copy of a network that holds it counts here, too
        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def hook(network: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            self._evaluated(output)

        self._hook = hook

    @property
    def count(self) -> float:
        """Passes so far."""
        return self.thirds / (3 * self.pass_items)

    def add(self, network: nn.Module) -> None:
        """Count ``network``, too; if a part of it is counted already, the part counts."""
        self.networks.append(network)
        if self._handles is not None:
            self._attach(network)

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count passes through ``networks`` inside the block."""
        self._handles = []
        for network in self.networks:
            self._attach(network)
        try:
            yield
        finally:
            for handle in self._handles:
                handle.remove()
            self._handles = None

    def _attach(self, network: nn.Module) -> None:
        assert self._handles is not None
        hooks = (hook for part in network.modules() for hook in part._forward_hooks.values())
        if self._hook not in hooks:
            self._handles.append(network.register_forward_hook(self._hook))

    def _evaluated(self, output: Any) -> None:
        tensors = [tensor for tensor in tree_leaves(output) if isinstance(tensor, Tensor)]
        items = max((_items(tensor) for tensor in tensors), default=0)
        self.thirds += FORWARD * items
        waiting = [tensor for tensor in tensors if tensor.requires_grad]
        if not items or not waiting:
            return

        own_copies = _copies(waiting[0])  # a hook that held the tensor would keep its graph alive

        def arrived(gradient: Tensor) -> None:
            copies = max(_copies(gradient) // own_copies, 1)
            self.thirds += BACKWARD * items * copies

        if len(waiting) == 1:
            waiting[0].register_hook(arrived)
        else:  # once for each backward, whichever of them it comes by
            register_multi_grad_hook(waiting, arrived, mode="any")


def _items(tensor: Tensor) -> int:
    """The items that a tensor holds along its first axis, in each of its copies."""
    return _copies(tensor) * len(tensor) if tensor.ndim else 0


def _copies(tensor: Tensor) -> int:
    """How many tensors ``torch.vmap`` or batched gradients compute at once as this one."""
    copies = 1
    if _functorch.is_legacy_batchedtensor(tensor):  # of torch.autograd.grad(is_grads_batched=True)
        copies = torch._remove_batch_dim(tensor, 1, 0, 0).shape[0]
    while _functorch.is_functorch_wrapped_tensor(tensor):
        if _functorch.is_batchedtensor(tensor):
            axis = _functorch.maybe_get_bdim(tensor)
            copies *= _functorch.get_unwrapped(tensor).shape[axis]
        tensor = _functorch.get_unwrapped(tensor)
    return copies
