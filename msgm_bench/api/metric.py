"""Metrics: rows of a result from the artifacts of tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from torch import Tensor

from msgm_bench.api.columns import MeasuredRows, MetricColumn
from msgm_bench.api.context import Artifact, EvalContext, ModelContext
from msgm_bench.api.evidence import Evidence
from msgm_bench.api.model import Model
from msgm_bench.api.plugin import OptionsT, Plugin
from msgm_bench.api.result import MetricProtocol, Row
from msgm_bench.api.task import Task
from msgm_bench.errors import PluginError


class Metric(Plugin[OptionsT], ABC):
    """Measures the artifact of a task.

    Attributes:
        tasks: Names of the tasks whose artifacts it measures, one at a time.
        columns: Its columns in tables that compare methods; empty: it is in reports alone, and on
            boards that name it.
        protocols: Prefixes of the names of its protocols; ``violations`` checks their rows.
        latest_version: The highest version of its protocols; boards know none beyond it.
        needs_base: Whether it compares artifacts with those of the base model
            (``context.base_artifact``).
    """

    tasks: ClassVar[tuple[str, ...]]
    columns: ClassVar[tuple[MetricColumn, ...]] = ()
    protocols: ClassVar[tuple[str, ...]] = ()
    latest_version: ClassVar[int] = 1
    needs_base: ClassVar[bool] = False

    @classmethod
    def validate(cls) -> None:
        """Refuse a class that contradicts itself, as every plugin does, or has wrong columns.

        Raises:
            PluginError: ``columns`` or ``protocols`` have the wrong type.
        """
        super().validate()
        for attribute, kind in (("columns", MetricColumn), ("protocols", str)):
            value = getattr(cls, attribute)
            if not (isinstance(value, tuple) and all(isinstance(part, kind) for part in value)):
                raise PluginError(
                    f"{attribute} of {cls.name!r} is {value!r:.100}", f"a tuple of {kind.__name__}"
                )

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """Plugins that it measures with, ``{kind: (name, options)}``; checked before training."""
        return {}

    @abstractmethod
    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """Protocol of its values; other settings of a task need another name or version."""

    @abstractmethod
    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """Headline row and companions of an artifact; ``row.task`` is ``task.name``."""

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """Tensors from which ``recompute`` has the rows again; empty where there are none.

        Submissions ship them, so that others recompute a value: one number an item where that
        will do. ``full`` asks for all of it where it is large (features and not their moments).
        """
        return {}

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The rows of ``measure`` from ``evidence`` alone; the tensors may be a stranger's.

        Raises:
            MsgmBenchError: No rows follow from such tensors.
        """
        return []

    @classmethod
    def tolerance(cls, evidence: Evidence) -> float:
        """How far ``recompute`` may be from the value v, in units of max(1, |v|)."""
        return 1e-6

    def gather(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> Evidence:
        """``evidence`` with what identifies it."""
        protocol = self.protocol(context, task)
        tensors = {
            name: tensor.detach().cpu()
            for name, tensor in self.evidence(context, task, artifact, full).items()
        }
        forget = tuple(context.data.classes[target] for target in context.targets)
        return Evidence(task.name, protocol.id, protocol.settings, forget, tensors)

    def skip(self, context: EvalContext, model: Model) -> str | None:
        """Reason to skip the metric, or None; neither the model nor the judge is trained yet."""
        return None

    def needs_reference(self, context: EvalContext) -> bool:
        """Whether it has a ``compute_reference``; the judge is not trained yet."""
        return False

    def compute_reference(self, context: EvalContext) -> dict[str, Tensor]:
        """Tensors that depend on no model, by name; computed once and shared by all models."""
        return {}

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Contradictions in rows of its protocols, in results of any origin."""
        return iter(())
