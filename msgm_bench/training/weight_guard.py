"""Notices weights that moved without the trainer's knowledge."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from msgm_bench.errors import PluginError

State = list[tuple[int, int, int]]


class Tensors:
    """Named tensors in the modules of a network, whose states are read without a walk.

    Args:
        network: The network.
        kind: ``_parameters`` or ``_buffers``.
    """

    def __init__(self, network: nn.Module, kind: str) -> None:
        self.places: list[tuple[str, dict[str, Tensor | None], str]] = [
            (f"{path}.{key}".lstrip("."), getattr(module, kind), key)
            for path, module in network.named_modules()
            for key, tensor in getattr(module, kind).items()
            if tensor is not None
        ]

    def state(self) -> State:
        """Object, version and address of each tensor; zeros where it is not there any more."""
        tensors = (held.get(key) for _, held, key in self.places)
        return [(0, 0, 0) if t is None else (id(t), t._version, t.data_ptr()) for t in tensors]

    def changed(self, known: State) -> list[str]:
        """Names of the tensors whose state is not the known one."""
        now = self.state()
        if now == known:
            return []
        pairs = zip(self.places, known, now, strict=True)
        return [place[0] for place, before, after in pairs if before != after]


class WeightGuard:
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
        self._parameters, self._buffers = (
            Tensors(network, kind) for kind in ("_parameters", "_buffers")
        )
        self._frozen = Tensors(nn.Module() if base is None else base, "_parameters")
        self._left: tuple[State, State] = ([], [])  # of parameters and buffers, when last known
        self._base = self._frozen.state()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Look at forward passes and at steps of other optimisers inside the block."""
        self.record()
        handles = [register_optimizer_step_post_hook(self._raise_counters)]
        if self._buffers.places:
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
        self._left = self._parameters.state(), self._buffers.state()

    def check(self) -> None:
        """Compare with what is known; inside ``free`` anything goes.

        Raises:
            PluginError: The method moved weights of the model by itself, or any of the base.
        """
        if self._free:
            return
        parameters, buffers = self._left
        self._refuse([*self._parameters.changed(parameters), *self._buffers.changed(buffers)])
        if self._frozen.changed(self._base):
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

    def _refuse(self, moved: list[str]) -> None:
        if moved:
            more = f" and {len(moved) - 1} more" if len(moved) > 1 else ""
            raise PluginError(
                f"method {self.method!r} moved weights of session.model by itself: "
                f"{moved[0]}{more}; their average would not follow",
                "session.minimise, session.descend, or changes inside `with session.edit():`",
            )

    def _raise_counters(self, optimizer: Optimizer, *arguments: Any) -> None:
        if optimizer is self.optimizer:
            return
        watched = {identity for identity, _, _ in (*self._left[0], *self._base)}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if id(parameter) in watched and parameter.grad is not None:
                    increment_version(parameter)

    def _before_forward(self) -> Any:
        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def hook(network: nn.Module, inputs: tuple[Any, ...]) -> None:
            if not self._free:
                self._refuse(self._buffers.changed(self._left[1]))

        return hook

    def _after_forward(self) -> Any:
        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def hook(network: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            self._left = self._left[0], self._buffers.state()

        return hook
