"""The part of ``Session`` for data and state: batches, noise, labels, further networks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from msgm_bench.api import Batch, Examples, Method, Model, PromptBook, Split, Training
from msgm_bench.api.session import undeclared
from msgm_bench.diffusion import Noise, derive_seed
from msgm_bench.errors import IncompatibleError, PluginError
from msgm_bench.training.batches import NoisedBatches
from msgm_bench.training.optimizer import Optimizer
from msgm_bench.training.pass_counter import PassCounter


class TrainingSession(Optimizer):
    """Implements ``Session`` but for ``total_steps``, which depends on the loop.

    Args:
        model: The model to train.
        method: The method; its ``needs`` are the splits that it may read.
        noised_batches: Batches of each split.
        budget: Steps and optimiser.
        device: Device of the noise.
        seed: Seed of this stage.
        base: Frozen base model, where the method needs one.
        labels: Labels of the classes of the splits ``retain`` and ``forget``.
        pass_items: Items of a pass; by default a batch.
        concepts: Indices of the classes or attributes to be forgotten.
        prompts: The prompts of the data, if there are any.
    """

    def __init__(
        self,
        model: Model,
        method: Method,
        noised_batches: NoisedBatches,
        budget: Training,
        device: torch.device,
        seed: int,
        base: Model | None = None,
        labels: Mapping[str, tuple[int, ...]] | None = None,
        pass_items: int | None = None,
        concepts: tuple[int, ...] = (),
        prompts: PromptBook | None = None,
    ) -> None:
        super().__init__(model, budget)
        self.method, self.noised_batches, self.device = method, noised_batches, device
        self.seed, self._base = seed, base
        self.batch_size = budget.batch_size
        self.labels, self.concepts, self.prompts = labels or {}, concepts, prompts
        self.passes = PassCounter(pass_items or budget.batch_size)
        self._networks = [model.network] if base is None else [model.network, base.network]
        for network in self._networks:
            self.passes.add(network)
        if budget.passes is not None:  # first estimate: one pass of a batch a step
            self.horizon = budget.passes * self.passes.pass_items / budget.batch_size
        self._states: dict[str, nn.Module | torch.optim.Optimizer] = {}

    @property
    def base(self) -> Model:
        """The frozen base model, where the method declares it in ``needs``."""
        if self._base is None:
            raise undeclared(self.method.name, "base", self.method.needs)
        return self._base

    @property
    def forget_labels(self) -> tuple[int, ...]:
        """Labels of the classes of D_f."""
        return self._classes("forget")

    @property
    def retain_labels(self) -> tuple[int, ...]:
        """Labels of the classes of D_g."""
        return self._classes("retain")

    @property
    def forget_concepts(self) -> tuple[int, ...]:
        """Indices of the classes or attributes to be forgotten."""
        self._check_reads_forget_set()
        return self.concepts

    @property
    def prompt_book(self) -> PromptBook:
        """The prompts of the data."""
        if self.prompts is None:
            raise IncompatibleError(
                f"method {self.method.name!r} reads prompts of data that have none",
                "text-to-image data (--text)",
            )
        return self.prompts

    def _check_reads_forget_set(self) -> None:
        if self.method.needs - {"base"} == {"all"}:
            raise PluginError(
                f"method {self.method.name!r} reads the classes to forget, and declares that it "
                "needs all of D",
                "methods with another `needs`: all forget sets share the models of this one",
            )

    def _classes(self, split: Split) -> tuple[int, ...]:
        self._check_reads_forget_set()
        if split not in self.labels:
            raise IncompatibleError(
                f"method {self.method.name!r} reads the classes to forget of items with attributes",
                "data with one class an item",
            )
        return self.labels[split]

    def items(self, split: Split) -> Examples:
        """All items of a split that the method declares in ``needs``."""
        if split not in self.method.needs:
            raise undeclared(self.method.name, split, self.method.needs)
        return self.noised_batches.splits[split]

    def batch(
        self, split: Split, step: int, draw: int | str = 0, like: Batch | None = None
    ) -> Batch:
        """A batch of a split that the method declares in ``needs``."""
        self.items(split)
        return self.noised_batches.batch(split, step, draw, like)

    def noised(
        self, items: Examples, step: int, draw: int | str = 0, encoded: bool = False
    ) -> Batch:
        """``items`` as a batch."""
        encoded = encoded or self.noised_batches.encoded
        return self.noised_batches.noised(items, "noised", step, draw, encoded=encoded)

    def noise(self, *stream: int | str, count: int, start: int = 0) -> Noise:
        """Noise of a stream of the method."""
        seed = derive_seed(self.seed, "method", *stream)
        return Noise(seed, start, count, self.device)

    def register_state(self, name: str, state: nn.Module | torch.optim.Optimizer) -> None:
        """Store ``state`` in every checkpoint; passes through a network count."""
        self._states[name] = state
        if isinstance(state, nn.Module):
            self.passes.add(state)

    def adam(
        self,
        name: str,
        network: nn.Module,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> torch.optim.Adam:
        """Adam for a further network; both are registered."""
        adam = torch.optim.Adam(network.parameters(), lr=learning_rate, betas=betas, fused=True)
        self.register_state(name, network)
        self.register_state(f"{name}, optimizer", adam)
        return adam
