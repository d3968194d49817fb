"""Inputs of tasks and metrics: the data, the judge and the model under evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from msgm_bench.api.data import Data, Examples
from msgm_bench.api.judge import Judge
from msgm_bench.api.model import Model
from msgm_bench.api.session import Batch
from msgm_bench.api.settings import Training
from msgm_bench.errors import PluginError

Artifact = Mapping[str, Tensor]
LossFunction = Callable[[Model, Batch], Tensor]
"""A scalar loss of the model on a batch, such as ``dsm_loss``."""


class PluginFactory(Protocol):
    """Creates registered plugins."""

    def __call__(self, kind: str, name: str, options: Mapping[str, Any]) -> Any:
        """The plugin ``name`` of a kind (``samplers``, ...) with validated options."""


class ModelTrainer(Protocol):
    """Trains copies of the model under evaluation."""

    def __call__(
        self,
        loss: LossFunction,
        items: Examples,
        budget: Training,
        seed: int,
        part: str = "all",
        encoded: bool = False,
    ) -> Model:
        """A trained copy, in evaluation mode; it shares the tensors of all other parts.

        A training that was killed goes on from its checkpoint when it is repeated.

        Args:
            loss: The loss of a step.
            items: The training items, on the model's device.
            budget: Steps and optimiser.
            seed: Seed of batches and noise; no two trainings of a task have the same.
            part: The part of the network that is trained (``Model.part``).
            encoded: Whether the items are in model space already.
        """


def refuse_training(
    loss: LossFunction,
    items: Examples,
    budget: Training,
    seed: int,
    part: str = "all",
    encoded: bool = False,
) -> Model:
    """The ``ModelTrainer`` of what may not train.

    Raises:
        PluginError: Always.
    """
    raise PluginError(
        "training where nothing may be trained", "`draw` of a task with trains = True"
    )


@dataclass(frozen=True, kw_only=True)
class EvalContext:
    """The part of an evaluation that depends on no model; all methods of a board share it.

    Attributes:
        data: The dataset.
        targets: Class indices of D_f.
        judge: The shared judge.
        judge_id: The judge's ``protocol``. Metrics whose values depend on the judge have it in the
            settings of their protocols, as ``judge``.
        device: Device of the model and the judge.
        create: Creates another plugin, ``create(kind, name, options)``.
    """

    data: Data
    targets: tuple[int, ...]
    judge: Judge
    judge_id: Mapping[str, Any]
    device: torch.device
    create: PluginFactory = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ModelContext(EvalContext):
    """A model under evaluation, with the inputs of tasks and metrics.

    Attributes:
        model: The model, in evaluation mode.
        retain: Held-out items of D_g, on the model's device.
        forget: Held-out items of D_f, on the model's device.
        seed: Seed of all evaluation noise; the same for every method of a board.
        base: The frozen base model, for ``draw`` of tasks with ``needs_base``; else None.
        trainer: Trains copies of the model, for ``draw`` of tasks with ``trains``.
        reference: Value of the metric's ``compute_reference``, for ``measure``.
        control: The task's artifact from a model that never saw D_f, for ``measure``, if the task
            has ``has_control``; empty where there is no such model: from a given base, for a
            stored model, on data without items.
        base_artifact: The task's artifact from the base model, for ``measure`` of metrics with
            ``needs_base``.
    """

    model: Model
    retain: Examples
    forget: Examples
    seed: int
    base: Model | None = None
    trainer: ModelTrainer = field(default=refuse_training, repr=False)
    reference: Artifact = field(default_factory=dict, repr=False)
    control: Artifact = field(default_factory=dict, repr=False)
    base_artifact: Artifact = field(default_factory=dict, repr=False)

    def visible(self, examples: Examples) -> Tensor:
        """``examples.x`` as [0, 1] images ``[N, C, H, W]`` or points ``[N, D]``."""
        codec = self.model.codec
        return codec.decode(codec.encode(examples.x))
