"""Accuracy on class-conditional samples: UA of the classes to forget, RA of the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from msgm_bench import (
    Artifact,
    Evidence,
    MeasuredRows,
    Metric,
    MetricColumn,
    MetricProtocol,
    ModelContext,
    Prediction,
    Row,
    Task,
    hookimpl,
    wilson,
)
from msgm_builtin.metrics.judged import (
    Judged,
    check_lengths,
    judged_tensors,
    named_targets,
    target_tensor,
)
from msgm_builtin.metrics.row_checks import accuracy_violations
from msgm_builtin.tasks.class_generation import retain_mask

FIELDS = {"unit": "%", "scale": 100}


class ClassAccuracy(Metric):
    """Shares of samples that show their condition, the class that they were drawn for."""

    tasks = ("class_generation",)
    label: ClassVar[str]

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The judge, the sampler, the guidance and the numbers of samples."""
        settings = {
            "judge": dict(context.judge_id),
            task.name: task.protocol(context),
            "data": context.data.protocol,
        }
        return MetricProtocol(name=f"{self.label}/judge", version=1, settings=settings)

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Shares of no whole count, and parts that do not add up."""
        return accuracy_violations(rows)

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """The headline and its companions."""
        return self.recompute(self.gather(context, task, artifact))


class UnlearningAccuracy(ClassAccuracy):
    """Share of the samples of classes to forget that do not show their class, in per cent.

    A sample shows it where the judge recognises the sample and assigns it to the class, so noise
    counts as unlearned: ``ua_unrecognisable`` is the share that the judge does not recognise.
    Companions: ``ua:CLASS`` of each of several classes to forget, and both values on real
    held-out items (``ua_floor``, ``ua_unrecognisable_floor``): the errors of the judge itself.
    """

    name = "ua"
    citation = "Heng and Soh 2023, arXiv:2305.10120; Fan et al. 2024, arXiv:2310.12508"
    label = "unlearning_accuracy"
    columns = (
        MetricColumn(
            metric="ua", label="UA", direction="up", track="class", position=10, ranks=True
        ),
        MetricColumn(
            metric="ua_unrecognisable",
            label="unrecog.",
            direction="down",
            track="class",
            position=20,
        ),
    )
    protocols = ("unlearning_accuracy/judge",)

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """Classes of the samples of classes to forget, and of their real held-out items."""
        forget = ~retain_mask(context, artifact)
        return {
            "y": artifact["y"][forget],
            "real_y": context.forget.y,
            "targets": target_tensor(context.targets),
            **judged_tensors("samples", predict(context, artifact["x"][forget])),
            **judged_tensors("real", context.judge.predict(context.visible(context.forget))),
        }

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The rows of ``measure`` from judged classes."""
        fields: dict[str, Any] = evidence.common | FIELDS
        samples = fields | {"split": "samples", "direction": "up"}
        judged, y = judged_with_labels(evidence, "samples", "y")
        unlearned, unrecognised = ~judged.shows(y), ~judged.recognised
        rows = [
            share_row(unlearned, metric="ua", **samples),
            share_row(unrecognised, metric="ua_unrecognisable", **samples | {"direction": "down"}),
        ]
        named = named_targets(evidence)
        if len(named) > 1:
            rows += [
                share_row(unlearned[y == target], metric=f"ua:{name}", **samples)
                for name, target in named.items()
            ]
        real, real_y = judged_with_labels(evidence, "real", "real_y")
        fields |= {"split": "forget"}
        return [
            *rows,
            share_row(~real.shows(real_y), metric="ua_floor", **fields),
            share_row(~real.recognised, metric="ua_unrecognisable_floor", **fields),
        ]


class RemainingAccuracy(ClassAccuracy):
    """Share of the retained classes' samples that are judged as their class, in per cent.

    Companions: the share that the judge does not recognise (``ra_unrecognisable``), and the same
    accuracy on real held-out items (``ra_clean``), which the judge can reach.
    """

    name = "ra"
    citation = UnlearningAccuracy.citation
    label = "remaining_accuracy"
    columns = (MetricColumn(metric="ra", label="RA", direction="up", track="class", position=30),)
    protocols = ("remaining_accuracy/judge",)

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """Classes of the samples of retained classes, and of real held-out items."""
        retain = retain_mask(context, artifact)
        x = artifact["x"][retain]
        return {
            "y": artifact["y"][retain],
            "finite": torch.isfinite(x).flatten(1).all(dim=1),
            "real_y": context.retain.y,
            **judged_tensors("samples", predict(context, x)),
            **judged_tensors("real", context.judge.predict(context.visible(context.retain))),
        }

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The rows of ``measure`` from judged classes."""
        fields: dict[str, Any] = evidence.common | FIELDS
        samples = fields | {"split": "samples"}
        judged, y = judged_with_labels(evidence, "samples", "y")
        finite = evidence.mask("finite")
        check_lengths(evidence, y, finite)
        correct, unrecognised = (judged.classes == y) & finite, ~judged.recognised
        real, real_y = judged_with_labels(evidence, "real", "real_y")
        clean = real.classes == real_y
        return [
            share_row(correct, metric="ra", direction="up", **samples),
            share_row(unrecognised, metric="ra_unrecognisable", direction="down", **samples),
            share_row(clean, metric="ra_clean", split="retain", **fields),
        ]


def predict(context: ModelContext, x: Tensor) -> Prediction:
    """The judge's prediction for samples in model space."""
    return context.judge.predict(context.model.codec.decode(x.to(context.device)))


def judged_with_labels(evidence: Evidence, name: str, labels: str) -> tuple[Judged, Tensor]:
    """The judged items ``name`` and their labels ``int64 [N]``."""
    judged, y = Judged.of(evidence, name), evidence.integers(labels)
    check_lengths(evidence, judged.classes, y)
    return judged, y


def share_row(mask: Tensor, **fields: Any) -> Row:
    """A row of the true share of a mask, with Wilson's interval."""
    return Row.of(wilson(int(mask.sum()), len(mask)), n=len(mask), **fields)


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """UA and RA."""
    return [UnlearningAccuracy, RemainingAccuracy]
