"""Tasks: sampling, likelihood, restoration; each draws an artifact from a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from msgm_bench.api.context import Artifact, ModelContext
from msgm_bench.api.data import Data
from msgm_bench.api.model import Model
from msgm_bench.api.plugin import Options, Plugin


@dataclass(frozen=True)
class Cost:
    """Cost of an item of a task, for estimates of time.

    Attributes:
        nfe: Network evaluations.
        vjps: Vector-Jacobian products of each evaluation.
        assumed: The assumption behind ``nfe``; empty if the options fix it.
    """

    nfe: int
    vjps: int = 0
    assumed: str = ""


class TaskOptions(Options):
    """Options that every task has."""

    batch_size: int = Field(1_000, ge=1, description="items drawn at once and stored together")

    def limit_samples(self, samples: int) -> dict[str, int]:
        """Changes of options such that every evaluation set has at most ``samples`` items."""
        return {}


class CountOptions(TaskOptions):
    """Options of a task that draws at most ``count`` items of each split."""

    count: int = Field(10_000, ge=1, description="largest number of items of a split")

    def limit_samples(self, samples: int) -> dict[str, int]:
        """At most ``samples`` items of each split."""
        return {"count": min(samples, self.count)}


TaskOptionsT = TypeVar("TaskOptionsT", bound=TaskOptions, default=TaskOptions, covariant=True)


class Task(Plugin[TaskOptionsT], ABC):
    """Draws an artifact from a model, once; all metrics of the task share it.

    Attributes:
        on_request: Whether it runs only where the request names it (``--task``); else it is a
            part of every run.
        measures: Whether the artifact is a measurement (a likelihood), which is computed in fp32
            whatever the precision of training and sampling, and no sample.
        needs_base: Whether it looks at the base model, too (``context.base``).
        needs_judge: Whether ``context.judge`` is fitted while it draws (an attack that is guided
            by what the judge sees).
        trains: Whether it trains copies of the model (``context.trainer``).
        has_control: Whether its artifact is also drawn from a model that never saw D_f, for
            metrics (``context.control``).
        has_concept_control: Whether, where no such model can be had, the same with a concept that
            the base does not know (``PromptBook.unknown``) is its control.
    """

    on_request: ClassVar[bool] = False
    measures: ClassVar[bool] = False
    needs_base: ClassVar[bool] = False
    needs_judge: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    has_control: ClassVar[bool] = False
    has_concept_control: ClassVar[bool] = False

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """Plugins that it draws with, ``{kind: (name, options)}``; checked before training.

        Several plugins of one kind have keys ``kind:ROLE``.
        """
        return {}

    @property
    def start(self) -> float:
        """The time at which sampling starts, in (0, 1]."""
        return 1.0

    def skip(self, model: Model) -> str | None:
        """Reason to skip the task for this model, or None."""
        return None

    def with_model_defaults(self, model: Model) -> Self:
        """The task with options that depend on the model's process filled in."""
        return self

    def check(self, model: Model) -> None:
        """Refuse a model before anything is trained; its weights are on ``meta``.

        Raises:
            UsageError: The task cannot be done on this process, or with these options.
        """

    def cost(self, model: Model) -> Cost | None:
        """Cost of an item on this model, or None if unknown."""
        return None

    def check_data(self, data: Data, targets: Sequence[int]) -> None:
        """Refuse data or a forget set before anything is trained.

        Raises:
            UsageError: The task cannot be done on them with these options.
        """

    @abstractmethod
    def total(self, context: ModelContext) -> int:
        """Number of items of the artifact."""

    @abstractmethod
    def draw(self, context: ModelContext, start: int, count: int) -> dict[str, Tensor]:
        """Items ``start .. start+count-1``: tensors ``[count, ...]`` by name.

        They depend on ``context.seed`` and the items' indices alone, so that a killed run resumes
        at the first chunk that is not stored. ``nfe`` counts network evaluations, if known.
        """

    def preview(self, context: ModelContext, artifact: Artifact) -> Mapping[str, Tensor]:
        """Rows of a picture, by caption.

        [0, 1] images ``[N, C, H, W]``, one row as a square and several as strips, or points
        ``[N, 2]``, which are scattered over the data. Captions are ``label`` or
        ``heading: label``; what image i shows depends on the model, the seed and i only.
        """
        return {}

    def protocol(self, context: ModelContext) -> dict[str, Any]:
        """Settings that a value depends on."""
        settings: dict[str, Any] = self.options.model_dump(mode="json", exclude={"batch_size"})
        return settings
