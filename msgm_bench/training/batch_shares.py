"""Shares of a batch: each process evaluates its items, and all have every output and gradient.

A network's input [N, ...] is cut into a share of items for each process; the outputs of the shares
are put together to [N, ...] again. What a method makes of them is computed by every process from
the same numbers, so that its loss may be any function of the batch. Backwards, the gradient of an
output is cut as the input was, the gradient of an input is put together, and that of the
parameters, to which each process adds its items', is summed. All of this is in the graph: what
``backward`` and ``torch.autograd.grad`` return is the gradient of the whole batch.

Source: Shoeybi et al. 2019, arXiv:1909.08053, figure 3 (f and g, each other's gradient).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._C import _functorch
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_leaves, tree_map_only

from msgm_bench.diffusion import derive_seed
from msgm_bench.ranks import Ranks
from msgm_bench.training.generators import seed_device

log = logging.getLogger(__name__)


class BatchShares:
    """Shares each call of networks among the processes, item by item.

    Deep copies of such a network share theirs, too. A call is every process's whole where it has
    fewer items than there are processes, where batch normalisation looks at all of them, and inside
    ``torch.vmap`` and other transforms of functions.

    Args:
        ranks: The processes.
        networks: Their inputs, and their output, have items along the first axis.
    """

    def __init__(self, ranks: Ranks, networks: Iterable[nn.Module]) -> None:
        self.ranks, self.networks = ranks, list(networks)
        self._parts: WeakKeyDictionary[nn.Module, _Parts] = WeakKeyDictionary()
        self._calls: list[_Call] = []  # at present; one, as networks inside networks are not shared
        self._logged: set[str] = set()

        # functions and no methods: a deep copy of a network that holds them shares here, too
        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def before(network: nn.Module, args: Any, kwargs: Any) -> Any:
            return self._before(network, args, kwargs)

        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def after(network: nn.Module, args: Any, output: Any) -> Any:
            return self._after(network, output)

        self._hooks = before, after

    @contextlib.contextmanager
    def sharing(self) -> Iterator[None]:
        """Share the calls inside the block; one process alone does nothing."""
        if self.ranks.count == 1:
            yield
            return
        before, after = self._hooks
        handles = []
        for network in self.networks:
            handles.append(network.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(network.register_forward_hook(after, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, network: nn.Module, args: Any, kwargs: Any) -> Any:
        """Cut the inputs, and put parameters that sum their gradients into the network."""
        if self._calls:
            return None
        if network not in self._parts:
            self._parts[network] = _Parts(network)
        parts = self._parts[network]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        reason = self._reason_not_to(network, parts, tensors)
        if reason is not None:
            if reason not in self._logged:
                log.info("each process computes whole batches: %s", reason)
            self._logged.add(reason)
            return None
        items = _Items(self.ranks, len(tensors[0]))
        call = _Call(network, items, tensors[0].device)
        self._calls.append(call)
        if torch.is_grad_enabled():
            call.place_parameters(parts.places)
        if network.training and parts.has_dropout:
            call.seed_share()

        def own(tensor: Tensor) -> Tensor:
            is_batch = tensor.ndim and len(tensor) == items.total
            return _Cut.apply(tensor, items) if is_batch else tensor

        return tree_map_only(Tensor, own, (args, kwargs))

    def _after(self, network: nn.Module, output: Any) -> Any:
        """Put the outputs together, and the network's own parameters back; also after an error."""
        if not self._calls or self._calls[-1].network is not network:
            return None
        call = self._calls.pop()
        call.restore()
        if output is None:
            return None
        return tree_map_only(Tensor, lambda part: _Join.apply(part, call.items), output)

    def _reason_not_to(
        self, network: nn.Module, parts: _Parts, tensors: Sequence[Tensor]
    ) -> str | None:
        """Why every process computes all items of a call, or None."""
        if not tensors or not tensors[0].ndim or len(tensors[0]) < self.ranks.count:
            return "a batch has fewer items than there are processes"
        if any(norm.training for norm in parts.batch_norms):
            return "batch normalisation looks at the whole of it"
        held = (place[key] for place, key in parts.places)
        if any(_is_transformed(tensor) for tensor in (*tensors, *held) if tensor is not None):
            return "the method transforms the network's function"
        return None


class _Parts:
    """What is to know of a network: listed once.

    Attributes:
        places: The dictionaries that hold its parameters, and their keys there.
        batch_norms: Its layers of batch normalisation.
        has_dropout: Whether it drops anything in training.
    """

    def __init__(self, network: nn.Module) -> None:
        modules = list(network.modules())
        self.places = [
            (module._parameters, key) for module in modules for key in module._parameters
        ]
        self.batch_norms = [module for module in modules if isinstance(module, _BatchNorm)]
        self.has_dropout = any(isinstance(m, _DropoutNd) and m.p > 0 for m in modules)


@dataclass(frozen=True)
class _Items:
    """The share of this process in ``total`` items."""

    ranks: Ranks
    total: int

    @property
    def own(self) -> slice:
        """The items of this process."""
        rank, count = self.ranks.rank, self.ranks.count
        return slice(rank * self.total // count, (rank + 1) * self.total // count)


class _Call:
    """A call of a network whose items are shared."""

    def __init__(self, network: nn.Module, items: _Items, device: torch.device) -> None:
        self.network, self.items, self.device = network, items, device
        self._held: list[tuple[dict[str, Any], str, Tensor]] = []
        self._seed: int | None = None

    def place_parameters(self, places: Sequence[tuple[dict[str, Any], str]]) -> None:
        """Put views into the parameters' places whose gradients are summed over the processes."""
        held = [(place, key, place[key]) for place, key in places]
        self._held = [entry for entry in held if entry[2] is not None and entry[2].requires_grad]
        distinct = {id(parameter): parameter for _, _, parameter in self._held}
        views = _Spread.apply(self.items.ranks, *distinct.values())
        view_of = dict(zip(distinct, views, strict=True))
        for place, key, parameter in self._held:
            place[key] = view_of[id(parameter)]

    def seed_share(self) -> None:
        """Seed dropout by the rank: items of two processes do not drop alike."""
        self._seed = int(torch.randint(2**62, ()))
        seed_device(derive_seed(self._seed, "rank", self.items.ranks.rank), self.device)

    def restore(self) -> None:
        """Put the parameters back; all processes go on with one state of the generators."""
        for place, key, parameter in self._held:
            place[key] = parameter
        if self._seed is not None:
            seed_device(derive_seed(self._seed, "after"), self.device)


class _Cut(Function):
    """x[items of this process]; the gradient of x is put together."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, items: _Items) -> Tensor:
        ctx.items = items
        return x[items.own].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Join.apply(gradient, ctx.items), None


class _Join(Function):
    """The shares of all processes, ``[N, ...]``; the gradient is cut."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, items: _Items) -> Tensor:
        ctx.items = items
        whole = part.new_zeros(items.total, *part.shape[1:])
        whole[items.own] = part
        items.ranks.sum_(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Cut.apply(gradient, ctx.items), None


class _Spread(Function):
    """Tensors as each process computes with them; their gradients are summed."""

    @staticmethod
    def forward(ctx: Any, ranks: Ranks, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.ranks = ranks
        ctx.set_materialize_grads(False)  # what is not used has no gradient, as in one process
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        used = [gradient for gradient in gradients if gradient is not None]
        sums = iter(_Sum.apply(ctx.ranks, *used))
        return None, *(None if gradient is None else next(sums) for gradient in gradients)


class _Sum(Function):
    """The sums of tensors over the processes; the gradients are each process's own."""

    @staticmethod
    def forward(ctx: Any, ranks: Ranks, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.ranks = ranks
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        ranks.sum_(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        pairs = zip(parts, tensors, strict=True)
        return tuple(part.view(tensor.shape).to(tensor.dtype) for part, tensor in pairs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, *_Spread.apply(ctx.ranks, *gradients)


def _is_transformed(tensor: Tensor) -> bool:
    """Whether the tensor is one of ``torch.func`` or of batched gradients."""
    return bool(
        _functorch.is_functorch_wrapped_tensor(tensor) or _functorch.is_legacy_batchedtensor(tensor)
    )
