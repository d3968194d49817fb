"""The trainer's interface for methods: batches, gradients, steps, state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from msgm_bench.api.data import Examples
from msgm_bench.api.model import Model
from msgm_bench.api.prompts import PromptBook
from msgm_bench.diffusion import Noise
from msgm_bench.errors import PluginError

Split = Literal["all", "retain", "forget"]
SPLITS: tuple[Split, ...] = get_args(Split)
GradientTransform = Callable[[nn.Module], None]


@dataclass(frozen=True)
class Batch:
    """One noised batch of a split, in model space.

    Attributes:
        x0: Clean items ``[N, *shape]``.
        t: Times ``[N]``.
        eps: The noise ``[N, *shape]``.
        x_t: a(t) x0 + sigma(t) eps.
        y: Labels ``[N]`` or ``[N, A]``; captions ``[N]`` where the model takes prompts.
        condition: ``y`` of a conditional model, with the null condition K in the place of a
            label with probability ``Training.label_dropout_prob``; None for other models.
    """

    x0: Tensor
    t: Tensor
    eps: Tensor
    x_t: Tensor
    y: Tensor
    condition: Tensor | None = None


def undeclared(method: str, need: str, needs: Iterable[str]) -> PluginError:
    """The error of a method that reads what its ``needs`` do not declare."""
    declared = sorted(needs)
    what = "the base model" if need == "base" else f"the split {need!r}"
    whole = ", ".join(f'"{name}"' for name in sorted({*declared, need}))
    return PluginError(
        f"method {method!r} reads {what}",
        f"it declares {', '.join(declared) or 'none'}",
        f"needs = frozenset({{{whole}}})",
    )


@dataclass(frozen=True)
class Batches:
    """The batches of one step: one of each split that the method declares in ``needs``.

    Attributes:
        method: Name of the method, for errors.
        drawn: The batches by split.
        noise: Further random numbers of the step that the method draws, by name.
    """

    method: str
    drawn: Mapping[Split, Batch]
    noise: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def retain(self) -> Batch:
        """The batch of D_g.

        Raises:
            PluginError: The method does not declare ``retain``.
        """
        return self._of("retain")

    @property
    def forget(self) -> Batch:
        """The batch of D_f.

        Raises:
            PluginError: The method does not declare ``forget``.
        """
        return self._of("forget")

    @property
    def all(self) -> Batch:
        """The batch of all of D.

        Raises:
            PluginError: The method does not declare ``all``.
        """
        return self._of("all")

    def _of(self, split: Split) -> Batch:
        if split not in self.drawn:
            raise undeclared(self.method, split, self.drawn)
        return self.drawn[split]


class Session(Protocol):
    """The trainer's interface for a method. All its state survives a kill.

    P is the number of the model's trainable parameters (``Method.trains``). A vector ``[P]`` holds
    them all, one tensor after another in the order of ``model.parameters()``.
    """

    @property
    def model(self) -> Model:
        """The model being trained."""

    @property
    def base(self) -> Model:
        """A frozen copy of the base model.

        Raises:
            PluginError: The method does not declare that it needs ``base``.
        """

    @property
    def total_steps(self) -> int:
        """The budget in outer steps; extrapolated from a budget of passes."""

    @property
    def batch_size(self) -> int:
        """Items of a batch."""

    @property
    def forget_labels(self) -> tuple[int, ...]:
        """Conditions that D_f consists of: classes, or captions that ask for a concept of D_f.

        Raises:
            IncompatibleError: Items carry attributes without captions.
            PluginError: The method declares ``all``: all forget sets share its models.
        """

    @property
    def retain_labels(self) -> tuple[int, ...]:
        """Conditions that D_g consists of: classes, or captions.

        Raises:
            IncompatibleError: As ``forget_labels``.
            PluginError: As ``forget_labels``.
        """

    @property
    def forget_concepts(self) -> tuple[int, ...]:
        """Indices of the classes or attributes to be forgotten, among those of the data.

        Raises:
            PluginError: The method declares ``all``: all forget sets share its models.
        """

    @property
    def prompt_book(self) -> PromptBook:
        """The prompts of the data: captions, concepts, domains, anchors.

        Raises:
            IncompatibleError: The data have none.
        """

    # Data and noise

    def items(self, split: Split) -> Examples:
        """All items of a split.

        Raises:
            PluginError: The method does not declare that it needs this split.
        """

    def batch(
        self, split: Split, step: int, draw: int | str = 0, like: Batch | None = None
    ) -> Batch:
        """A batch that depends on (seed, split, step, draw) alone.

        Args:
            split: The split of its items.
            step: Number of the batch.
            draw: Name of a stream of noise for the same items.
            like: Another batch of the same size, whose t and eps are used; mirroring,
                dequantisation and dropped labels come from the batch's own stream.

        Raises:
            PluginError: The method does not declare that it needs this split, or ``like`` has
                another size.
        """

    def noised(
        self, items: Examples, step: int, draw: int | str = 0, encoded: bool = False
    ) -> Batch:
        """``items`` as a batch, with noise that depends on (seed, step, draw) alone.

        Args:
            items: Some of ``items(split)``, or generated ones.
            step: Number of the draw.
            draw: Name of a stream of draws.
            encoded: Whether ``items`` are in model space already, as generated ones are.
        """

    def noise(self, *stream: int | str, count: int, start: int = 0) -> Noise:
        """Noise for items ``start .. start+count-1`` of a stream of the method, on the device."""

    # Optimisation

    def minimise(
        self, loss: Tensor, transform: GradientTransform | None = None, mask: Tensor | None = None
    ) -> None:
        """One step down ``loss``: backward, transform, clip, mask, Adam, EMA.

        Args:
            loss: A scalar.
            transform: Changes the gradients in place before they are clipped.
            mask: ``bool [P]``, the entries that move; the others stay, whatever Adam's moments.
        """

    def gradients(self, *losses: Tensor) -> tuple[Tensor, ...]:
        """The gradient of each loss, ``float32 [P]``, unclipped; no weight moves.

        Losses that share a forward pass go into one call, which frees the graph.
        """

    def descend(self, gradient: Tensor, mask: Tensor | None = None) -> None:
        """One step down ``gradient [P]``: clip, mask, Adam, EMA."""

    def edit(self) -> AbstractContextManager[None]:
        """A block in which the method changes weights of ``model``; the EMA makes one step.

        Autograd is off inside. Outside the block, any change of weights but those of ``minimise``
        and ``descend`` is a ``PluginError`` at the end of the step.
        """

    def inner_loop(self, keep_moments: bool = False) -> AbstractContextManager[None]:
        """An inner loop: steps inside move the model but not its average, and are undone after it.

        The method may change weights inside. The graph of a loss from before the block cannot be
        used after it.

        Args:
            keep_moments: Whether Adam's moments stay as they are after the inner steps.
        """

    # State

    def register_state(self, name: str, state: nn.Module | torch.optim.Optimizer) -> None:
        """Store ``state`` in every checkpoint and restore it on resume.

        Passes through a registered network count, as do those of a network of ``adam``.
        """

    def adam(
        self,
        name: str,
        network: nn.Module,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> torch.optim.Adam:
        """Adam for a further network; both are registered, and the network's passes are counted."""
