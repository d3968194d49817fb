"""What methods see of the trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from msgm_bench.api.data import Examples
from msgm_bench.api.model import Model
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
        y: Labels ``[N]`` or ``[N, A]``.
        condition: What a class-conditional model is told: ``y``, with the null class K in the
            place of a share of the labels (``Training.label_dropout_prob``); None for other models.
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
    """

    method: str
    drawn: Mapping[Split, Batch]

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
    """The trainer, as a method sees it. All state in it survives a kill.

    P is the number of the model's trainable parameters. A vector ``[P]`` holds them all, one
    tensor after another in the order of ``model.parameters()``.
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
        """The budget, in outer steps; of a budget of passes, an extrapolation."""

    @property
    def batch_size(self) -> int:
        """Items of a batch."""

    @property
    def forget_labels(self) -> tuple[int, ...]:
        """Labels of the classes that D_f consists of.

        Raises:
            IncompatibleError: Items carry attributes, and D_f is not made of whole classes.
            PluginError: The method declares ``all``: what it makes is shared by all forget sets.
        """

    @property
    def retain_labels(self) -> tuple[int, ...]:
        """Labels of the classes that D_g consists of.

        Raises:
            IncompatibleError: As ``forget_labels``.
            PluginError: As ``forget_labels``.
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
        """A batch that depends on (seed, split, step, draw) only.

        Args:
            split: Whose items.
            step: Number of the batch.
            draw: Name of a stream of noise for the same items.
            like: Another batch of the same size, whose t and eps this one takes; mirroring,
                dequantisation and dropped labels stay its own.

        Raises:
            PluginError: The method does not declare that it needs this split, or ``like`` has
                another size.
        """

    def noised(
        self, items: Examples, step: int, draw: int | str = 0, encoded: bool = False
    ) -> Batch:
        """These very items as a batch, with noise that depends on (seed, step, draw) only.

        Args:
            items: Some of ``items(split)``, or what the method generated.
            step: Number of the draw.
            draw: Name of a stream of draws.
            encoded: Whether they are in model space already, as generated ones are.
        """

    def noise(self, *stream: int | str, count: int, start: int = 0) -> Noise:
        """Noise for the items ``start ..`` of a stream of the method's own, on the device."""

    # Descent

    def minimise(
        self, loss: Tensor, transform: GradientTransform | None = None, mask: Tensor | None = None
    ) -> None:
        """One step down ``loss``: backward, transform, clip, mask, Adam, EMA.

        Args:
            loss: A scalar.
            transform: Changes the gradients in place before they are clipped.
            mask: ``bool [P]``, the entries that may move; the others stay, whatever Adam remembers.
        """

    def gradients(self, *losses: Tensor) -> tuple[Tensor, ...]:
        """The gradient of each loss, ``float32 [P]``, unclipped; nothing moves.

        Losses may share a forward pass: name them in one call, after which the graph is gone.
        """

    def descend(self, gradient: Tensor, mask: Tensor | None = None) -> None:
        """One step down a gradient ``[P]`` of the method's making: clip, mask, Adam, EMA."""

    def edit(self) -> AbstractContextManager[None]:
        """The method moves weights of ``model`` by itself inside the block: one step of the EMA.

        Nothing inside is recorded for gradients. Anywhere else, weights that move other than by
        ``minimise`` and ``descend`` are a ``PluginError`` at the end of the step.
        """

    def inner_loop(self, keep_moments: bool = False) -> AbstractContextManager[None]:
        """An inner loop: steps inside move the model but not its average, and are then undone.

        The graph of a loss that was evaluated before it cannot be used after it. The method may
        move the weights in it as it likes.

        Args:
            keep_moments: Whether Adam's moments stay as the inner steps left them.
        """

    # State

    def register_state(self, name: str, state: nn.Module | torch.optim.Optimizer) -> None:
        """Store ``state`` in every checkpoint and restore it on resume.

        What goes through a registered network counts, as it does through any of ``adam``.
        """

    def adam(
        self,
        name: str,
        network: nn.Module,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> torch.optim.Adam:
        """Adam for a further network; both are registered, and the network's passes are counted."""
