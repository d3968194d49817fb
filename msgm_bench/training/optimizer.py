"""Steps of the weights: gradients, clipping, masks, Adam, learning rate and EMA."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from msgm_bench.api import Model, Training
from msgm_bench.training.ema import EMA, stored_buffers, trained
from msgm_bench.training.weight_guard import WeightGuard


class Optimizer:
    """Adam on one model, with the EMA of its weights.

    Args:
        model: The model to train.
        budget: Steps and optimiser.

    Attributes:
        step: Number of outer steps so far.
        horizon: Total number of outer steps, as far as it is known.
        gradient_norm: L2 norm of the last gradient before clipping.
    """

    def __init__(self, model: Model, budget: Training) -> None:
        self.model, self.budget = model, budget
        self.step = 0
        self.horizon = float(budget.steps)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(
            self.parameters,
            lr=budget.learning_rate,
            betas=budget.adam_betas,
            fused=True,
        )
        self.ema = EMA(model.network, budget.ema_decay, budget.use_ema_warmup)
        self.gradient_norm = torch.zeros((), device=self.parameters[0].device)
        self.guard: WeightGuard | None = None
        self._averaging = budget.ema_decay > 0
        self._rate: Tensor | None = None  # eta and 1 - d, where a captured step reads them
        self._weight: Tensor | None = None
        self._is_captured = False
        if self.gradient_norm.is_cuda:
            self.hold_rates_on_device()

    def hold_rates_on_device(self) -> None:
        """Hold eta, and 1 - d of the EMA, in tensors, of the type that fused Adam reads.

        A GPU has them whether its steps are captured or not, so that both end with one number.
        """
        place = self.gradient_norm
        self._rate = place.new_zeros((), dtype=torch.float32 if place.is_cuda else torch.float64)
        self._weight = torch.zeros_like(place)

    def set_rates(self) -> None:
        """Set eta and 1 - d of the next step."""
        rate: float | Tensor = self.learning_rate(self.step)
        if self._rate is not None and self._weight is not None:
            rate = self._rate.fill_(rate)
            self._weight.fill_(self.ema.weight)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    @contextlib.contextmanager
    def captured(self) -> Iterator[None]:
        """A block whose steps are recorded: they read eta and 1 - d from memory."""
        self._is_captured = True
        try:
            yield
        finally:
            self._is_captured = False

    def minimise(
        self,
        loss: Tensor,
        transform: Callable[[nn.Module], None] | None = None,
        mask: Tensor | None = None,
    ) -> None:
        """Backward, transform, clip to ``budget.max_grad_norm``, mask, Adam, EMA."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if transform is not None:
            transform(self.model)
        self._move(mask)

    def gradients(self, *losses: Tensor) -> tuple[Tensor, ...]:
        """The gradient of each loss, ``float32 [P]``; 0 for parameters outside its graph.

        Losses may share a graph, which is freed after the last of them.
        """
        return tuple(
            self._gradient(loss, retain_graph=i < len(losses)) for i, loss in enumerate(losses, 1)
        )

    def _gradient(self, loss: Tensor, retain_graph: bool) -> Tensor:
        gradients = torch.autograd.grad(
            loss, self.parameters, retain_graph=retain_graph, materialize_grads=True
        )
        return torch.cat([gradient.reshape(-1) for gradient in gradients]).float()

    def descend(self, gradient: Tensor, mask: Tensor | None = None) -> None:
        """Clip ``gradient [P]`` to ``budget.max_grad_norm``, mask, Adam, EMA."""
        for parameter, part in zip(self.parameters, shaped(gradient, self.parameters), strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(part)
        self._move(mask)

    def _move(self, mask: Tensor | None) -> None:
        """One step of Adam with the parameters' ``grad``, clipped and masked; then the EMA."""
        self.gradient_norm = nn.utils.clip_grad_norm_(self.parameters, self.budget.max_grad_norm)
        if not self._is_captured:
            self.set_rates()
        for group in self.optimizer.param_groups:
            group["capturable"] = self._is_captured
        with self.known_move():
            with self._masked(mask):
                self.optimizer.step()
            self._average()

    def _average(self) -> None:
        if self._averaging:
            self.ema.update(self._weight if self._is_captured else None)

    def known_move(self) -> AbstractContextManager[None]:
        """A block in which the weight guard allows changes."""
        return contextlib.nullcontext() if self.guard is None else self.guard.allowed()

    @contextlib.contextmanager
    def edit(self) -> Iterator[None]:
        """A block in which the method changes weights, without autograd; then the EMA."""
        with self.known_move(), torch.no_grad():
            yield
            self._average()

    @contextlib.contextmanager
    def _masked(self, mask: Tensor | None) -> Iterator[None]:
        """A block in which entries with false ``mask [P]`` have no gradient and do not move."""
        if mask is None:
            yield
            return
        parts = shaped(mask, self.parameters)
        before = [parameter.detach().clone() for parameter in self.parameters]
        for parameter, part in zip(self.parameters, parts, strict=True):
            if parameter.grad is not None:
                parameter.grad.mul_(part)
        yield
        with torch.no_grad():
            for parameter, part, old in zip(self.parameters, parts, before, strict=True):
                parameter.copy_(torch.where(part, parameter, old))

    @contextlib.contextmanager
    def inner_loop(self, keep_moments: bool = False) -> Iterator[None]:
        """Steps inside move the model, not its EMA; the weights are restored afterwards."""
        weights = {name: tensor.clone() for name, tensor in self._moving().items()}
        moments = None if keep_moments else copy.deepcopy(self.optimizer.state_dict())
        averaging, self._averaging = self._averaging, False
        try:
            with self.known_move():
                yield
        finally:
            self._averaging = averaging
            with self.known_move():
                self._load(weights)
            if moments is not None:
                self.optimizer.load_state_dict(moments)

    def learning_rate(self, step: int) -> float:
        """eta(k) = eta min(1, (k + 1)/W), after the warm-up eta (1 + cos(pi (k - W)/(K - W)))/2.

        k is ``step``, W the warm-up (0 with ``continue_optimizer``), K ``horizon``; the cosine is
        that of ``lr_schedule`` = ``cosine``, otherwise the rate stays.
        """
        budget = self.budget
        warmup = 0 if budget.continue_optimizer else budget.warmup_steps
        warm = min(1.0, (step + 1) / warmup) if warmup else 1.0
        if budget.lr_schedule == "cosine" and step >= warmup:
            share = (step - warmup) / max(1.0, self.horizon - warmup)
            warm *= 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
        return budget.learning_rate * warm

    def use_average(self) -> None:
        """Load the averaged weights into the model, if there is an average."""
        if self.budget.ema_decay:
            self._load(self.ema.tensors)

    def _moving(self) -> dict[str, Tensor]:
        """Trained parameters and buffers of the network by name, without copies."""
        network = self.model.network
        tensors = trained(network) | stored_buffers(network)
        return {name: tensor.detach() for name, tensor in tensors.items()}

    @torch.no_grad()
    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy trained parameters and buffers into the network."""
        for name, tensor in self._moving().items():
            tensor.copy_(tensors[name])

    def state_dict(self) -> dict[str, Any]:
        """Trained weights, their average and Adam's moments."""
        return {
            "network": self._moving(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo ``state_dict``."""
        self._load(state["network"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])

    def continuation(self) -> dict[str, Tensor]:
        """Raw weights, Adam's state of each parameter and the number of averaged steps.

        Fine-tuning with ``continue_optimizer`` starts from them, beside the averaged weights.
        """
        tensors = {f"network.{name}": w for name, w in self.model.network.state_dict().items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{name}": value for name, value in state.items()}
        return tensors | {"averaged": torch.tensor(self.ema.count)}

    def continue_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue a training from its ``continuation``; the EMA starts at its averaged weights.

        Raises:
            KeyError: ``tensors`` lack a part of ``continuation``.
        """
        network: dict[str, Tensor] = {}
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "network":
                network[rest] = value
            elif kind == "adam":
                i, _, part = rest.partition(".")
                states.setdefault(int(i), {})[part] = value
        self._load(network)
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": states})
        self.ema.count = int(tensors["averaged"])


def shaped(vector: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """The parts of ``vector [P]`` in the shapes of ``parameters``."""
    parts = torch.split(vector, [parameter.numel() for parameter in parameters])
    return [part.view_as(like) for part, like in zip(parts, parameters, strict=True)]
