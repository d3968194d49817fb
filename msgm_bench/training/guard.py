"""Notices weights that moved without the trainer's knowledge."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import increment_version
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from msgm_bench.errors import PluginError

State = dict[str, tuple[int, int, int]]


class Guard:
    """Compares the version counters of a network's tensors with those after the last known move.

    Every change in place raises a tensor's counter. Fused optimisers raise none, so theirs are
    raised for them. Buffers may change in a forward pass (batch normalisation); between two of
    them they may not. What is written through ``.data`` goes round all this: the conformance kit
    compares values.

    Args:
        method: Name of the method, for errors.
        network: Whose parameters and buffers are looked at.
        base: A frozen network, of which no parameter may ever move.
        optimizer: The trainer's own.
    """

    def __init__(
        self, method: str, network: nn.Module, base: nn.Module | None, optimizer: Optimizer
    ) -> None:
        self.method, self.network, self.base, self.optimizer = method, network, base, optimizer
        self._free = 0  # blocks in which the method may move the weights
        self._parameters = self._buffers = self._frozen = State()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Look at forward passes and at steps of other optimisers inside the block."""
        self.record()
        self._frozen = {} if self.base is None else state_of(self.base.named_parameters())
        handles = [register_optimizer_step_post_hook(self._raise_counters)]
        if any(True for _ in self.network.buffers()):
            handles += [
                self.network.register_forward_pre_hook(self._before_forward()),
                self.network.register_forward_hook(self._after_forward()),
            ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def record(self) -> None:
        """What is there now is known."""
        self._parameters = state_of(self.network.named_parameters())
        self._buffers = state_of(self.network.named_buffers())

    def check(self) -> None:
        """Compare with what is known; inside ``free`` anything goes.

        Raises:
            PluginError: The method moved weights of the model by itself, or any of the base.
        """
        if self._free:
            return
        self._refuse(self._parameters, state_of(self.network.named_parameters()))
        self._refuse(self._buffers, state_of(self.network.named_buffers()))
        if self.base is not None and self._frozen != state_of(self.base.named_parameters()):
            raise PluginError(
                f"method {self.method!r} moved weights of session.base",
                "nothing: it is frozen",
                "train a copy of it, with session.adam",
            )

    @contextlib.contextmanager
    def free(self) -> Iterator[None]:
        """Let the method move the weights; afterwards they are known."""
        self.check()
        self._free += 1
        try:
            yield
        finally:
            self._free -= 1
            self.record()

    def _refuse(self, known: State, now: State) -> None:
        moved = [name for name in known.keys() | now.keys() if known.get(name) != now.get(name)]
        if moved:
            more = f" and {len(moved) - 1} more" if len(moved) > 1 else ""
            raise PluginError(
                f"method {self.method!r} moved weights of session.model by itself: "
                f"{min(moved)}{more}; their average would not follow",
                "session.minimise, session.descend, or changes inside `with session.edit():`",
            )

    def _raise_counters(self, optimizer: Optimizer, *arguments: Any) -> None:
        if optimizer is self.optimizer:
            return
        watched = {
            identity for identity, _, _ in (*self._parameters.values(), *self._frozen.values())
        }
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if id(parameter) in watched and parameter.grad is not None:
                    increment_version(parameter)

    def _before_forward(self) -> Any:
        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def hook(network: nn.Module, inputs: tuple[Any, ...]) -> None:
            if not self._free:
                self._refuse(self._buffers, state_of(self.network.named_buffers()))

        return hook

    def _after_forward(self) -> Any:
        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def hook(network: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            self._buffers = state_of(self.network.named_buffers())

        return hook


def state_of(tensors: Any) -> State:
    """Object, version and address of each named tensor."""
    return {name: (id(t), t._version, t.data_ptr()) for name, t in tensors}
