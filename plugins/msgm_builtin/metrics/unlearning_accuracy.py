"""Accuracy on class-conditional samples: UA of the classes to forget, RA of the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from msgm_bench import (
    Artifact,
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
from msgm_builtin.metrics.row_checks import accuracy_violations
from msgm_builtin.tasks.class_generation import retain_mask


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

    def row_fields(self, context: ModelContext, task: Task) -> dict[str, Any]:
        """Fields that all rows share."""
        protocol = self.protocol(context, task).id
        return {"task": task.name, "protocol": protocol, "unit": "%", "scale": 100}


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

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """The headline and its companions."""
        common = self.row_fields(context, task)
        samples = common | {"split": "samples", "direction": "up"}
        forget = ~retain_mask(context, artifact)
        y = artifact["y"][forget]
        prediction = predict(context, artifact["x"][forget])
        unlearned = ~shows(prediction, y)
        unrecognised = ~prediction.recognised.cpu()
        rows = [
            share_row(unlearned, metric="ua", **samples),
            share_row(unrecognised, metric="ua_unrecognisable", **samples | {"direction": "down"}),
        ]
        if len(context.targets) > 1:
            rows += [
                share_row(
                    unlearned[y == target],
                    metric=f"ua:{context.data.classes[target]}",
                    **samples,
                )
                for target in context.targets
            ]
        return rows + self.floors(context, common | {"split": "forget"})

    def floors(self, context: ModelContext, fields: dict[str, Any]) -> list[Row]:
        """The same shares of real held-out items and their true classes."""
        real = context.judge.predict(context.visible(context.forget))
        return [
            share_row(~shows(real, context.forget.y), metric="ua_floor", **fields),
            share_row(~real.recognised.cpu(), metric="ua_unrecognisable_floor", **fields),
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

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """The headline and its companions."""
        common = self.row_fields(context, task)
        samples = common | {"split": "samples"}
        retain = retain_mask(context, artifact)
        x, y = artifact["x"][retain], artifact["y"][retain]
        prediction = predict(context, x)
        finite = torch.isfinite(x).flatten(1).all(dim=1)
        correct = (prediction.classes.cpu() == y) & finite
        unrecognised = ~prediction.recognised.cpu()
        real = context.judge.predict(context.visible(context.retain)).classes
        clean = real.cpu() == context.retain.y.cpu()
        return [
            share_row(correct, metric="ra", direction="up", **samples),
            share_row(unrecognised, metric="ra_unrecognisable", direction="down", **samples),
            share_row(clean, metric="ra_clean", split="retain", **common),
        ]


def predict(context: ModelContext, x: Tensor) -> Prediction:
    """The judge's prediction for samples in model space."""
    return context.judge.predict(context.model.codec.decode(x.to(context.device)))


def shows(prediction: Prediction, y: Tensor) -> Tensor:
    """Mask ``[N]`` of the items that are recognised and assigned to the classes ``y [N]``."""
    classes = prediction.classes
    return ((classes == y.to(classes.device)) & prediction.recognised).cpu()


def share_row(mask: Tensor, **fields: Any) -> Row:
    """A row of the true share of a mask, with Wilson's interval."""
    return Row.of(wilson(int(mask.sum()), len(mask)), n=len(mask), **fields)


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """UA and RA."""
    return [UnlearningAccuracy, RemainingAccuracy]
