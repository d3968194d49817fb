"""How much went through networks, whatever a method did with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

FORWARD, FORWARD_AND_BACKWARD = 1, 3


class Passes:
    """Counts passes: one is a batch of ``batch_size`` items forward and backward.

    An evaluation counts by the items that it sees. Going back costs about twice as much as
    going forward, so an evaluation of which no graph is kept counts a third. Networks of the
    method's own count as the model does, whatever their size.

    Attributes:
        thirds: Thirds of a pass, times ``batch_size``: a whole number.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size, self.thirds = batch_size, 0

    @property
    def count(self) -> float:
        """Passes so far."""
        return self.thirds / (3 * self.batch_size)

    @contextlib.contextmanager
    def counted(self, networks: Iterable[nn.Module]) -> Iterator[None]:
        """Count what goes through ``networks`` inside the block."""

        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def hook(network: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            self.thirds += len(output) * (FORWARD_AND_BACKWARD if output.requires_grad else FORWARD)

        handles = [network.register_forward_hook(hook) for network in networks]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
