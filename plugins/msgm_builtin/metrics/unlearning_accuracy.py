"""The judge's accuracy on class-conditional samples: of the forgotten classes and of the others."""

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
from msgm_builtin.tasks.class_generation import kept


class Obedience(Metric):
    """Whether samples show the class that was asked for; a subclass says of which classes."""

    tasks = ("class_generation",)
    label: ClassVar[str]

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The judge, the sampler, the guidance and the sizes."""
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

    def common(self, context: ModelContext, task: Task) -> dict[str, Any]:
        """What all its rows have in common."""
        protocol = self.protocol(context, task).id
        return {"task": task.name, "protocol": protocol, "unit": "%", "scale": 100}


class UnlearningAccuracy(Obedience):
    """Share of the samples of forgotten classes that do not show the class asked for, in per cent.

    A sample shows it where the judge recognises the sample and assigns it to that class, so noise
    counts as unlearned: ``ua_unrecognisable`` is the share that the judge does not recognise.
    Companions: ``ua:CLASS`` of each class where several are forgotten, and both values on real
    held-out items (``ua_floor``, ``ua_unrecognisable_floor``): what the judge itself gets wrong.
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
        common = self.common(context, task)
        drawn = common | {"split": "samples", "direction": "up"}
        asked = artifact["y"]
        forgotten = ~kept(context, artifact)
        seen = judged(context, artifact["x"][forgotten])
        missed = ~shows(seen, asked[forgotten])
        unknown = ~seen.recognised.cpu()
        rows = [
            share(missed, metric="ua", **drawn),
            share(unknown, metric="ua_unrecognisable", **drawn | {"direction": "down"}),
        ]
        if len(context.targets) > 1:
            rows += [
                share(
                    missed[asked[forgotten] == target],
                    metric=f"ua:{context.data.classes[target]}",
                    **drawn,
                )
                for target in context.targets
            ]
        return rows + self.floors(context, common | {"split": "forget"})

    def floors(self, context: ModelContext, fields: dict[str, Any]) -> list[Row]:
        """The same of real held-out items, told their true class."""
        real = context.judge.predict(context.visible(context.forget))
        return [
            share(~shows(real, context.forget.y), metric="ua_floor", **fields),
            share(~real.recognised.cpu(), metric="ua_unrecognisable_floor", **fields),
        ]


class RemainingAccuracy(Obedience):
    """Share of the other classes' samples that are judged as the class asked for, in per cent.

    Companions: the share that the judge does not recognise (``ra_unrecognisable``), and the same
    accuracy on real held-out items (``ra_clean``), which is what the judge can reach.
    """

    name = "ra"
    citation = UnlearningAccuracy.citation
    label = "remaining_accuracy"
    columns = (MetricColumn(metric="ra", label="RA", direction="up", track="class", position=30),)
    protocols = ("remaining_accuracy/judge",)

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """The headline and its companions."""
        common = self.common(context, task)
        drawn = common | {"split": "samples"}
        mask = kept(context, artifact)
        x, asked = artifact["x"][mask], artifact["y"][mask]
        seen = judged(context, x)
        finite = torch.isfinite(x).flatten(1).all(dim=1)
        right = (seen.classes.cpu() == asked) & finite
        real = context.judge.predict(context.visible(context.retain)).classes
        clean = real.cpu() == context.retain.y.cpu()
        unknown = ~seen.recognised.cpu()
        return [
            share(right, metric="ra", direction="up", **drawn),
            share(unknown, metric="ra_unrecognisable", direction="down", **drawn),
            share(clean, metric="ra_clean", split="retain", **common),
        ]


def judged(context: ModelContext, x: Tensor) -> Prediction:
    """The judge's verdict on samples in model space."""
    return context.judge.predict(context.model.codec.decode(x.to(context.device)))


def shows(prediction: Prediction, asked: Tensor) -> Tensor:
    """Mask ``[N]`` of the items that are recognised and assigned to the class asked for."""
    return (
        (prediction.classes == asked.to(prediction.classes.device)) & prediction.recognised
    ).cpu()


def share(mask: Tensor, **fields: Any) -> Row:
    """A row of the share that is true, with Wilson's interval."""
    return Row.of(wilson(int(mask.sum()), len(mask)), n=len(mask), **fields)


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """UA and RA."""
    return [UnlearningAccuracy, RemainingAccuracy]
