"""Unlearning methods and what they see of the trainer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from msgm_bench.api.data import Examples
from msgm_bench.api.model import Model
from msgm_bench.api.plugin import Plugin
from msgm_bench.diffusion import Noise

Split = Literal["all", "retain", "forget"]
Regime = Literal["retrain", "finetune"]
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
            place of a share of the labels (``Training.unconditional``); None for other models.
    """

    x0: Tensor
    t: Tensor
    eps: Tensor
    x_t: Tensor
    y: Tensor
    condition: Tensor | None = None


class Session(Protocol):
    """The trainer, as a method sees it. All state in it survives a kill.

    P is the number of the model's trainable parameters. A vector ``[P]`` holds them all, one
    tensor after another in the order of ``model.parameters()``.
    """

    @property
    def model(self) -> Model:
        """The model being trained."""

    @property
    def base(self) -> Model | None:
        """A frozen copy of the base model, for methods that need one."""

    @property
    def total_steps(self) -> int:
        """The budget, in outer steps."""

    @property
    def batch_size(self) -> int:
        """Items of a batch."""

    @property
    def forgotten(self) -> tuple[int, ...]:
        """Labels of the classes that D_f consists of.

        Raises:
            IncompatibleError: Items carry attributes, and D_f is not made of whole classes.
            PluginError: The method declares ``all``: what it makes is shared by all forget sets.
        """

    @property
    def kept(self) -> tuple[int, ...]:
        """Labels of the classes that D_g consists of.

        Raises:
            IncompatibleError: As ``forgotten``.
            PluginError: As ``forgotten``.
        """

    # Data and noise

    def items(self, split: Split) -> Examples:
        """All items of a split.

        Raises:
            PluginError: The method does not declare that it needs this split.
        """

    def batch(self, split: Split, step: int, draw: int | str = 0) -> Batch:
        """A batch that depends on (seed, split, step, draw) only.

        Raises:
            PluginError: The method does not declare that it needs this split.
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

    def gradient(self, loss: Tensor) -> Tensor:
        """The gradient of ``loss``, ``float32 [P]``, unclipped; nothing moves."""

    def descend(self, gradient: Tensor, mask: Tensor | None = None) -> None:
        """One step down a gradient ``[P]`` of the method's making: clip, mask, Adam, EMA."""

    def excursion(self, keep_moments: bool = False) -> AbstractContextManager[None]:
        """An inner loop: steps inside move the model but not its average, and are then undone.

        The graph of a loss that was evaluated before it cannot be used after it.

        Args:
            keep_moments: Whether Adam's moments stay as the inner steps left them.
        """

    # State

    def keep(self, name: str, state: nn.Module | torch.optim.Optimizer) -> None:
        """Store ``state`` in every checkpoint and restore it on resume."""

    def adam(
        self,
        name: str,
        network: nn.Module,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> torch.optim.Adam:
        """Adam for a further network; both are kept, and the network's passes are counted."""


class Method(Plugin, ABC):
    """An unlearning method.

    Attributes:
        regimes: Where it applies, the default first: ``retrain`` starts from fresh
            weights, ``finetune`` from the base model.
        needs: The splits that it reads (``all``, ``retain``, ``forget``), and ``base`` for
            a frozen copy of the base model. Any other access is an error.
        baseline: Whether it is a reference row of every comparison, whatever the regime.
        trains_base: Whether it makes the base model from which others fine-tune.
        lost: Tasks that its model can no longer do (a one-step generator has no likelihood).
    """

    regimes: ClassVar[tuple[Regime, ...]] = ("retrain",)
    needs: ClassVar[frozenset[str]] = frozenset({"retain", "forget"})
    baseline: ClassVar[bool] = False
    trains_base: ClassVar[bool] = False
    lost: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: BaseModel | None = None) -> None:
        super().__init__(config)
        self.recorded: dict[str, Tensor] = {}

    def skip(self, model: Model, regime: Regime) -> str | None:
        """Why the method cannot run on this model, or None where it can."""
        return None

    def setup(self, session: Session) -> None:
        """Build copies, extra networks, empty buffers; runs at the start and again on resume."""

    def preparation(self, session: Session) -> int:
        """Units of work before step 0 (batches of a mask, of a diagonal, of generated data)."""
        return 0

    def prepare(self, session: Session, unit: int) -> None:
        """Unit number ``unit`` of the preparation; the model is in evaluation mode.

        What it leaves in kept state survives a kill: a resumed run goes on with the next unit.
        """

    @abstractmethod
    def update(self, session: Session, step: int) -> Tensor:
        """One outer step; returns the loss that is logged."""

    def record(self, **values: Tensor) -> None:
        """Log scalar diagnostics of this step (the trainer reads them every few steps)."""
        self.recorded |= {name: value.detach() for name, value in values.items()}

    def check(self, recorded: Mapping[str, float]) -> None:
        """Judge the diagnostics whenever they are logged.

        Raises:
            DivergenceError: Training should stop here.
        """


class LossMethod(Method):
    """A method that is one loss: the trainer owns everything else."""

    @abstractmethod
    def loss(self, model: Model, retain: Batch | None, forget: Batch | None, step: int) -> Tensor:
        """The scalar loss.

        Args:
            model: The model being trained.
            retain: A batch of D_g (of all of D where ``needs`` has ``all``); None if not needed.
            forget: A batch of D_f; None if not needed.
            step: Index of the step, from 0.
        """

    def transform_gradients(self, model: nn.Module) -> None:
        """Change the gradients in place, before they are clipped."""

    def update(self, session: Session, step: int) -> Tensor:
        """Draw, evaluate, descend."""
        kept: Split = "all" if "all" in self.needs else "retain"
        retain = session.batch(kept, step) if kept in self.needs else None
        forget = session.batch("forget", step) if "forget" in self.needs else None
        loss = self.loss(session.model, retain, forget, step)
        session.minimise(loss, self.transform_gradients)
        return loss.detach()


def noise_matching(model: Model, batch: Batch) -> Tensor:
    """Denoising score matching, E ||eps_hat(x_t, t[, c]) - eps||^2 / D.

    Equal to sigma^2 ||s - grad log p_0t||^2 / D: equation 3 of MSGM with lambda = sigma^2, as a
    mean over dimensions.
    """
    return (model.eps(batch.x_t, batch.t, batch.condition) - batch.eps).square().mean()
