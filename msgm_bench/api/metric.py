"""Metrics: from artifacts to rows of a result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from torch import Tensor

from msgm_bench.api.columns import MeasuredRows, MetricColumn
from msgm_bench.api.context import Artifact, EvalContext, ModelContext
from msgm_bench.api.model import Model
from msgm_bench.api.plugin import OptionsT, Plugin
from msgm_bench.api.result import MetricProtocol, Row
from msgm_bench.api.task import Task
from msgm_bench.errors import PluginError


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
    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """What its values mean; tasks whose settings differ need ids that differ."""

    @abstractmethod
    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """The headline row, and companions under names of their own; rows name ``task.name``."""

    def skip(self, scene: EvalContext, model: Model) -> str | None:
        """Why it says nothing of such models here, or None; neither model nor judge is fitted."""
        return None

    def needs_reference(self, scene: EvalContext) -> bool:
        """Whether ``compute_reference`` is to be called; the judge is not fitted yet."""
        return False

    def compute_reference(self, scene: EvalContext) -> dict[str, Tensor]:
        """What it needs that no model changes: computed once, and shared by all of them."""
        return {}

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Reasons why rows of its protocols cannot be, whoever reports them."""
        return iter(())
