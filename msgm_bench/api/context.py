"""Inputs of tasks and metrics: the data, the judge and the model under evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from msgm_bench.api.data import Data, Examples
from msgm_bench.api.judge import Judge
from msgm_bench.api.model import Model

Artifact = Mapping[str, Tensor]


class PluginFactory(Protocol):
    """Creates registered plugins."""

    def __call__(self, kind: str, name: str, options: Mapping[str, Any]) -> Any:
        """The plugin ``name`` of a kind (``samplers``, ...) with validated options."""


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
        reference: Value of the metric's ``compute_reference``, for ``measure``.
    """

    model: Model
    retain: Examples
    forget: Examples
    seed: int
    reference: Artifact = field(default_factory=dict, repr=False)

    def visible(self, examples: Examples) -> Tensor:
        """``examples.x`` as [0, 1] images ``[N, C, H, W]`` or points ``[N, D]``."""
        codec = self.model.codec
        return codec.decode(codec.encode(examples.x))
