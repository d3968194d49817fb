"""Tasks draw artifacts, embedders look at them, metrics turn them into rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from msgm_bench.api.columns import MeasuredRows, MetricColumn
from msgm_bench.api.data import Data, Examples
from msgm_bench.api.judge import Judge
from msgm_bench.api.model import Model
from msgm_bench.api.plugin import Options, OptionsT, Plugin
from msgm_bench.api.result import MetricProtocol, Row
from msgm_bench.diffusion import Noise, Samples
from msgm_bench.errors import PluginError

Artifact = Mapping[str, Tensor]


class Sampler(Plugin[OptionsT], ABC):
    """A way to draw from a model."""

    @abstractmethod
    def sample(
        self, model: Model, noise: Noise, start: tuple[Tensor, float] | None = None
    ) -> Samples:
        """``noise.count`` items in model space, and the network evaluations that each cost.

        Args:
            model: The model.
            noise: The source of all randomness.
            start: (x_t ``[N, *shape]``, t) to start from instead of the prior at T.
        """

    def check(self, model: Model, t: float = 1.0) -> None:
        """Refuse a model or a budget before anything is trained; weights are not there yet.

        Args:
            model: The model, without weights.
            t: The time from which it will sample.

        Raises:
            UsageError: The sampler cannot run on this process, or with these options.
        """


class Embedder(Plugin[OptionsT], ABC):
    """Maps images to feature vectors, for distances between images and between sets."""

    def missing(self, judge: Judge) -> str | None:
        """Why it cannot embed here (its weights are not on this machine), or None."""
        return None

    def checksum(self) -> str:
        """SHA-256 of the weights that it reads; empty where there are none, or none here."""
        return ""

    def protocol(self) -> dict[str, Any]:
        """The settings that a value depends on, the weights' checksum among them; no paths."""
        return {"name": self.name, "options": self.options.model_dump(mode="json")}

    def load(self, judge: Judge, device: torch.device) -> None:
        """Get ready: read the weights, or take the fitted judge.

        Raises:
            StorageError: The weights are not what they should be.
        """

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Features ``[N, F]`` of [0, 1] images ``[N, C, H, W]``; ``load`` came before."""


class PluginFactory(Protocol):
    """Makes registered plugins."""

    def __call__(self, kind: str, name: str, options: Mapping[str, Any]) -> Any:
        """The plugin of that kind and name, with its options."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What there is to look at whatever the model: all methods of a board share it.

    Attributes:
        data: The dataset.
        targets: Class indices of D_f.
        judge: The shared judge.
        judge_id: The judge's own ``protocol``; a metric whose values rest on the judge has it in
            its protocol's settings, as ``judge``.
        device: Where the model and the judge are.
        create: Makes another plugin, ``create(kind, name, options)``.
    """

    data: Data
    targets: tuple[int, ...]
    judge: Judge
    judge_id: Mapping[str, Any]
    device: torch.device
    create: PluginFactory = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Subject(Scene):
    """A model under evaluation, with all that tasks and metrics may look at.

    Attributes:
        model: The model, in evaluation mode.
        retain: Held-out items of D_g, on the model's device.
        forget: Held-out items of D_f, on the model's device.
        seed: Seed of all evaluation noise; the same for every method of a board.
        reference: What the metric's ``refer`` made, for ``measure``.
    """

    model: Model
    retain: Examples
    forget: Examples
    seed: int
    reference: Artifact = field(default_factory=dict, repr=False)

    def visible(self, examples: Examples) -> Tensor:
        """Real items as metrics see them: [0, 1] images or points."""
        codec = self.model.codec
        return codec.decode(codec.encode(examples.x))


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

    def capped(self, samples: int) -> dict[str, int]:
        """The options that change where every evaluation set has at most ``samples`` items."""
        return {}


class CountOptions(TaskOptions):
    """Options of a task that draws so many items of each split."""

    count: int = Field(10_000, ge=1, description="most items to draw, a split")

    def capped(self, samples: int) -> dict[str, int]:
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

    def resolved(self, model: Model) -> Self:
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
    def total(self, subject: Subject) -> int:
        """Number of items of the artifact."""

    @abstractmethod
    def draw(self, subject: Subject, start: int, count: int) -> dict[str, Tensor]:
        """Items ``start .. start+count-1``: tensors whose first dimension is ``count``.

        Must depend on ``subject.seed`` and the items' indices only, so that a killed run
        resumes at the chunk that it had not finished. ``nfe`` is reported where it is known.
        """

    def preview(self, subject: Subject, artifact: Artifact) -> Mapping[str, Tensor]:
        """Rows for a picture of its name, by caption.

        [0, 1] images ``[N, C, H, W]``, one row as a square and several as strips, or points
        ``[N, 2]``, which are scattered over the data. Captions are ``label`` or
        ``heading: label``; what image i shows depends on the model, the seed and i only.
        """
        return {}

    def protocol(self, subject: Subject) -> dict[str, Any]:
        """The settings that a value depends on."""
        settings: dict[str, Any] = self.options.model_dump(mode="json", exclude={"batch_size"})
        return settings


class Metric(Plugin[OptionsT], ABC):
    """Rows from the artifacts of tasks.

    Attributes:
        tasks: Names of the tasks whose artifacts it reads, each by itself.
        columns: Its rows in the tables that compare methods; none: it stands in reports, and on
            boards that name it.
        protocols: Starts of the names of its protocols, whose rows ``violations`` looks at.
    """

    tasks: ClassVar[tuple[str, ...]]
    columns: ClassVar[tuple[MetricColumn, ...]] = ()
    protocols: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def validate(cls) -> None:
        """As every plugin, and its columns.

        Raises:
            PluginError: ``columns`` or ``protocols`` are not what they should be.
        """
        super().validate()
        for attribute, kind in (("columns", MetricColumn), ("protocols", str)):
            value = getattr(cls, attribute)
            if not (isinstance(value, tuple) and all(isinstance(part, kind) for part in value)):
                raise PluginError(
                    f"{attribute} of {cls.name!r} is {value!r:.100}", f"a tuple of {kind.__name__}"
                )

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """Other plugins it looks with, ``{kind: (name, options)}``."""
        return {}

    @abstractmethod
    def protocol(self, subject: Subject, task: Task) -> MetricProtocol:
        """What its values mean; tasks whose settings differ need ids that differ."""

    @abstractmethod
    def measure(self, subject: Subject, task: Task, artifact: Artifact) -> list[Row]:
        """The headline row, and companions under names of their own; rows name ``task.name``."""

    def skip(self, scene: Scene, model: Model) -> str | None:
        """Why it says nothing of such models here, or None; neither model nor judge is fitted."""
        return None

    def refers(self, scene: Scene) -> bool:
        """Whether ``refer`` is to be called; the judge is not fitted yet."""
        return False

    def refer(self, scene: Scene) -> dict[str, Tensor]:
        """What it needs that no model changes: computed once, and shared by all of them."""
        return {}

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Reasons why rows of its protocols cannot be, whoever reports them."""
        return iter(())
