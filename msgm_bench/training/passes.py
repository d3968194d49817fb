"""How much went through networks, whatever a method did with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

FORWARD, BACKWARD = 1, 2


class Passes:
    """Counts passes: one is ``pass_items`` items forward and backward.

    Forward is a third of it, backward two: items are counted when a network has evaluated them,
    and again each time a gradient arrives at its output, however often a graph is used. Several
    losses of one backward make one arrival. Networks of the method's own count as the model
    does, whatever their size, and copies of counted networks count, too.

    Attributes:
        thirds: Thirds of a pass, times ``pass_items``: a whole number.
        networks: The networks that are counted.
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
        """Count this network, too; one of which a part is counted already counts by that part."""
        self.networks.append(network)
        if self._handles is not None:
            self._attach(network)

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count what goes through ``networks`` inside the block."""
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
        if not isinstance(output, Tensor) or output.ndim == 0:
            return
        items = len(output)
        self.thirds += FORWARD * items
        if output.requires_grad:

            def arrived(gradient: Tensor) -> None:
                self.thirds += BACKWARD * items

            output.register_hook(arrived)  # type: ignore[no-untyped-call]
