"""The common part of metrics that count the images of a group of prompts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from torch import Tensor

from msgm_bench import (
    Artifact,
    MeasuredRows,
    Metric,
    MetricProtocol,
    ModelContext,
    MsgmBenchError,
    PluginError,
    PromptGroup,
    Row,
    Task,
    wilson,
)
from msgm_text.metrics.prompt_checks import accuracy_violations
from msgm_text.tasks.prompt_sets import book_of

RETAINED: tuple[PromptGroup, ...] = ("neighbour", "unrelated")
NO_ITEMS = "the data hold no such items to compare with"
Fields = Mapping[str, Any]


class PromptMetric(Metric):
    """Shares of the images of a group of prompts, in per cent with Wilson's interval.

    A judge that cannot judge gives null values with its reason, never a concept that is absent.

    Attributes:
        headline: Name of the first row.
        label: First part of the protocol's name.
        group: Prompts of the headline.
    """

    tasks = ("prompt_generation",)
    headline: ClassVar[str]
    label: ClassVar[str]
    group: ClassVar[PromptGroup]

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The judge, the prompts, the sampler, the guidance and the numbers of images."""
        settings = {
            "judge": dict(context.judge_id),
            task.name: task.protocol(context),
            "prompts": book_of(context.data).digest,
            "data": context.data.protocol,
        }
        return MetricProtocol(name=f"{self.label}/prompts", version=1, settings=settings)

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Shares of no whole count, and parts that do not add up."""
        return accuracy_violations(rows)

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """The headline and its companions; null with a reason where there is nothing to count."""
        protocol = self.protocol(context, task).id
        fields: dict[str, Any] = {"task": task.name, "protocol": protocol, "unit": "%"}
        if not book_of(context.data).groups(context.targets)[self.group]:
            return self.null_rows(f"no prompt is of the group {self.group!r}", fields)
        try:
            return self.rows(context, artifact, fields)
        except PluginError:
            raise
        except MsgmBenchError as error:
            reason = f"the judge {context.judge.name!r} failed: {error}"
            return self.null_rows(" ".join(reason.split()), fields)

    @abstractmethod
    def rows(self, context: ModelContext, artifact: Artifact, fields: Fields) -> list[Row]:
        """The headline and its companions, with ``fields`` in each.

        Raises:
            MsgmBenchError: The judge cannot judge the images.
        """

    def null_rows(self, reason: str, fields: Fields) -> list[Row]:
        """The headline and the unrecognisable share without a value."""
        common = dict(fields) | {"split": "samples", "n": 0, "value": None, "reason": reason}
        return [
            Row(metric=self.headline, direction="up", **common),
            Row(metric=f"{self.headline}_unrecognisable", direction="down", **common),
        ]


def sample_rows(metric: str, counted: Tensor, recognised: Tensor, fields: Fields) -> list[Row]:
    """The share of images that are counted, and ``metric_unrecognisable``; masks ``bool [N]``."""
    common = {"split": "samples", **fields}
    return [
        share_row(counted, metric=metric, direction="up", **common),
        share_row(~recognised, metric=f"{metric}_unrecognisable", direction="down", **common),
    ]


def concept_rows(
    metric: str, counted: Tensor, concepts: Tensor, context: ModelContext, fields: Fields
) -> list[Row]:
    """``metric:CONCEPT``, the share of each concept's images; none where all are of one."""
    common = {"split": "samples", "direction": "up", **fields}
    chosen = concepts.unique().tolist()
    if len(chosen) < 2:
        return []
    names = context.data.classes
    return [
        share_row(counted[concepts == k], metric=f"{metric}:{names[k]}", **common) for k in chosen
    ]


def share_row(mask: Tensor, **fields: Any) -> Row:
    """A row of the true share of a mask in per cent; null where it is of no item."""
    if not len(mask):
        return Row(value=None, reason=NO_ITEMS, n=0, **fields)
    return Row.of(wilson(int(mask.sum()), len(mask)), scale=100, n=len(mask), **fields)
