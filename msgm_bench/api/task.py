"""Tasks: what a model is asked to do, and the artifact that is drawn."""

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
    """What an item of a task costs, for estimates of time.

    Attributes:
        nfe: Network evaluations.
        vjps: Vector-Jacobian products that come with each of them.
        assumed: What ``nfe`` rests on, where the options do not fix it.
    """

    nfe: int
    vjps: int = 0
    assumed: str = ""


class TaskOptions(Options):
    """Options that every task has."""

    batch_size: int = Field(1_000, ge=1, description="items drawn at once and stored together")

    def limit_samples(self, samples: int) -> dict[str, int]:
        """The options that change where every evaluation set has at most ``samples`` items."""
        return {}


class CountOptions(TaskOptions):
    """Options of a task that draws so many items of each split."""

    count: int = Field(10_000, ge=1, description="most items to draw, a split")

    def limit_samples(self, samples: int) -> dict[str, int]:
        """At most ``samples`` items of each split."""
        return {"count": min(samples, self.count)}


TaskOptionsT = TypeVar("TaskOptionsT", bound=TaskOptions, default=TaskOptions, covariant=True)


class Task(Plugin[TaskOptionsT], ABC):
    """Something a model is asked to do; its artifact is drawn once and shared by metrics.

    Attributes:
        measures: Whether its artifact is a measurement (a likelihood) and no sample: it is then
            computed in fp32, whatever precision training and sampling have.
    """

    measures: ClassVar[bool] = False

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """Other plugins it draws with, ``{kind: (name, options)}``: checked before training."""
        return {}

    @property
    def start(self) -> float:
        """The time from which it samples."""
        return 1.0

    def skip(self, model: Model) -> str | None:
        """Why it makes no sense for such models, or None; it is then left out of the plan."""
        return None

    def with_model_defaults(self, model: Model) -> Self:
        """The same task with the options that it leaves to the model's process filled in."""
        return self

    def check(self, model: Model) -> None:
        """Refuse a model before anything is trained; its weights are not there yet.

        Raises:
            UsageError: The task cannot be done on this process, or with these options.
        """

    def cost(self, model: Model) -> Cost | None:
        """What an item costs on such models, or None where nobody can tell."""
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
        """Items ``start .. start+count-1``: tensors whose first dimension is ``count``.

        Must depend on ``context.seed`` and the items' indices only, so that a killed run
        resumes at the chunk that it had not finished. ``nfe`` is reported where it is known.
        """

    def preview(self, context: ModelContext, artifact: Artifact) -> Mapping[str, Tensor]:
        """Rows for a picture of its name, by caption.

        [0, 1] images ``[N, C, H, W]``, one row as a square and several as strips, or points
        ``[N, 2]``, which are scattered over the data. Captions are ``label`` or
        ``heading: label``; what image i shows depends on the model, the seed and i only.
        """
        return {}

    def protocol(self, context: ModelContext) -> dict[str, Any]:
        """The settings that a value depends on."""
        settings: dict[str, Any] = self.options.model_dump(mode="json", exclude={"batch_size"})
        return settings
