"""The common part of metrics that count the images of a group of prompts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from msgm_bench import (
    Artifact,
    Evidence,
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
from msgm_text.metrics.judged_images import JudgedPrompts, judge_prompts
from msgm_text.metrics.prompt_checks import accuracy_violations
from msgm_text.metrics.prompt_evidence import check_same_length, names_of
from msgm_text.tasks.prompt_sets import book_of

RETAINED: tuple[PromptGroup, ...] = ("neighbour", "unrelated")
CONCEPTS = "concepts"
"""Names of all concepts, in the evidence."""
NO_ITEMS = "the data hold no such items to compare with"
Fields = Mapping[str, Any]


class NothingToCountError(MsgmBenchError):
    """The prompts ask for nothing that a metric could count."""


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
        protocol = self.protocol(context, task)
        try:
            tensors = self.judged_tensors(context, artifact)
        except PluginError:
            raise
        except NothingToCountError as error:
            return self.null_rows(task, protocol.id, error.what)
        except MsgmBenchError as error:
            reason = f"the judge {context.judge.name!r} failed: {error}"
            return self.null_rows(task, protocol.id, " ".join(reason.split()))
        forget = tuple(context.data.classes[target] for target in context.targets)
        evidence = Evidence(task.name, protocol.id, protocol.settings, forget, tensors)
        return self.recompute(evidence)

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """What the judge sees in the images; nothing where there is nothing to count."""
        try:
            return self.judged_tensors(context, artifact)
        except PluginError:
            raise
        except MsgmBenchError:
            return {}

    @abstractmethod
    def judged_tensors(self, context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
        """The evidence, on the CPU.

        Raises:
            NothingToCountError: The prompts ask for nothing that could be counted.
            MsgmBenchError: The judge cannot judge the images.
        """

    def judge_group(self, context: ModelContext, artifact: Artifact) -> JudgedPrompts:
        """The images of the prompts of the headline.

        Raises:
            NothingToCountError: There is no such prompt.
            MsgmBenchError: The judge cannot judge them.
        """
        if not book_of(context.data).groups(context.targets)[self.group]:
            raise NothingToCountError(f"no prompt is of the group {self.group!r}")
        return judge_prompts(context, artifact, self.group)

    def null_rows(self, task: Task, protocol: str, reason: str) -> list[Row]:
        """The headline and the unrecognisable share without a value."""
        common: dict[str, Any] = {
            "task": task.name,
            "protocol": protocol,
            "unit": "%",
            "split": "samples",
            "n": 0,
            "value": None,
            "reason": reason,
        }
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
    metric: str, counted: Tensor, images: JudgedPrompts, evidence: Evidence, fields: Fields
) -> list[Row]:
    """``metric:CONCEPT``, the share of each concept's images; none where all are of one.

    Raises:
        MsgmBenchError: The concepts have other names than there are concepts.
    """
    common = {"split": "samples", "direction": "up", **fields}
    concepts, names = images.concepts, names_of(evidence, CONCEPTS)
    check_same_length(evidence, images.present.T, torch.empty(len(names)))
    chosen = concepts.unique().tolist()
    if len(chosen) < 2:
        return []
    return [
        share_row(counted[concepts == k], metric=f"{metric}:{names[k]}", **common) for k in chosen
    ]


def share_row(mask: Tensor, **fields: Any) -> Row:
    """A row of the true share of a mask in per cent; null where it is of no item."""
    if not len(mask):
        return Row(value=None, reason=NO_ITEMS, n=0, **fields)
    return Row.of(wilson(int(mask.sum()), len(mask)), scale=100, n=len(mask), **fields)
