"""Detection of weights that a method changes outside the trainer's steps."""

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
    """Named tensors of a network's modules, listed once.

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
        """Object, version and address of each tensor; zeros for a removed tensor."""
        tensors = (held.get(key) for _, held, key in self.places)
        return [(0, 0, 0) if t is None else (id(t), t._version, t.data_ptr()) for t in tensors]

    def changed(self, known: State) -> list[str]:
        """Names of the tensors whose state differs from ``known``."""
        now = self.state()
        if now == known:
            return []
        pairs = zip(self.places, known, now, strict=True)
        return [place[0] for place, before, after in pairs if before != after]


class WeightGuard:
    """Compares the version counters of a network's tensors with those after the last known change.

    Every change in place raises a tensor's counter, but for fused optimisers, after whose steps
    the guard raises it, also that of networks that it does not guard: memoised embeddings of
    prompts look at it. Buffers may change in a forward pass (batch normalisation) and not
    between two passes. The guard does not see writes through ``.data``; the conformance kit
    compares values.

    Args:
        method: Name of the method, for errors.
        network: The network with the guarded parameters and buffers.
        base: A frozen network; none of its parameters may change.
    """

    def __init__(self, method: str, network: nn.Module, base: nn.Module | None) -> None:
        self.method, self.network, self.base = method, network, base
        self._depth = 0  # of nested blocks in which changes are allowed
        self._parameters, self._buffers = (
            Tensors(network, kind) for kind in ("_parameters", "_buffers")
        )
        self._frozen = Tensors(nn.Module() if base is None else base, "_parameters")
        self._known: tuple[State, State] = ([], [])  # of parameters and buffers
        self._base = self._frozen.state()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Observe forward passes and steps of other optimisers inside the block."""
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
        """Record the present state as known."""
        self._known = self._parameters.state(), self._buffers.state()

    def check(self) -> None:
        """Compare with the known state; not inside ``allowed``.

        Raises:
            PluginError: The method changed weights of the model outside ``Session.edit``, or of
                the base model.
        """
        if self._depth:
            return
        parameters, buffers = self._known
        self._refuse([*self._parameters.changed(parameters), *self._buffers.changed(buffers)])
        if self._frozen.changed(self._base):
            raise PluginError(
                f"method {self.method!r} moved weights of session.base",
                "nothing: it is frozen",
                "train a copy of it, with session.adam",
            )

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """A block in which the weights may change; their new state is known afterwards."""
        self.check()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
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
        for group in optimizer.param_groups:
            increment_version([p for p in group["params"] if p.grad is not None])

    def _before_forward(self) -> Any:
        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def hook(network: nn.Module, inputs: tuple[Any, ...]) -> None:
            if not self._depth:
                self._refuse(self._buffers.changed(self._known[1]))

        return hook

    def _after_forward(self) -> Any:
        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def hook(network: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            self._known = self._known[0], self._buffers.state()

        return hook
