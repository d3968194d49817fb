"""The unlearning ratio and what is needed to read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from msgm_bench import (
    Artifact,
    Examples,
    MeasuredRows,
    Metric,
    MetricColumn,
    MetricProtocol,
    ModelContext,
    MsgmBenchError,
    Prediction,
    Row,
    Task,
    hookimpl,
    rogan_gladen_interval,
    wilson,
)
from msgm_builtin.metrics.row_checks import ratio_violations

Count = tuple[int, int]


class UnlearningRatio(Metric):
    """Share of samples that the judge recognises and assigns to D_f, in per cent.

    Companions: the share of all samples that are assigned to D_f, recognised or not, as papers
    count whose judges take the most likely class (``ur_argmax``; a sample that is not finite has
    none), the share on real held-out D_g (``ur_floor``), the estimate corrected for the
    judge's errors on real data (``ur_corrected``, Rogan and Gladen 1978), and the share of
    samples that the judge does not recognise (``unrecognisable``), beside the same share of real
    held-out data (``unrecognisable_floor``): noise is not clean forgetting. Where several classes
    are to be forgotten, each has its own shares (``ur:CLASS``, ``ur_argmax:CLASS``); classes that
    exclude each other add up to ``ur``, attributes may overlap.
    """

    name = "ur"
    citation = "MSGM, arXiv:2412.07229, section 4.1 (Unlearning Metric)"
    tasks = ("generation",)
    columns = (
        MetricColumn(
            metric="ur",
            label="UR",
            direction="down",
            track="unconditional",
            position=10,
            ranks=True,
        ),
        MetricColumn(
            metric="unrecognisable",
            label="unrecog.",
            direction="down",
            track="unconditional",
            position=20,
        ),
    )
    protocols = ("unlearning_ratio/judge",)

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Shares of no whole count, and parts that do not add up."""
        return ratio_violations(rows)

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The judge, the sampler and the sizes."""
        settings = {
            "judge": dict(context.judge_id),
            "generation": task.protocol(context),
            "data": context.data.protocol,
        }
        return MetricProtocol(name="unlearning_ratio/judge", version=1, settings=settings)

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """The ratio, its five companions, and the shares of each class."""
        x = context.model.codec.decode(artifact["x"].to(context.device))
        samples = context.judge.predict(x)
        finite = torch.isfinite(x).flatten(1).all(dim=1)
        retain = context.judge.predict(context.visible(context.retain))
        forget = context.judge.predict(context.visible(context.forget))
        n, n_retain, n_forget = (len(v.classes) for v in (samples, retain, forget))
        targets = context.targets
        false, true = (hits(context, v, v.recognised, targets) for v in (retain, forget))
        real = n_retain + n_forget
        unknown = int((~samples.recognised).sum())
        unknown_real = int((~retain.recognised).sum() + (~forget.recognised).sum())
        common: dict[str, Any] = {
            "task": task.name,
            "protocol": self.protocol(context, task).id,
            "unit": "%",
            "scale": 100,
        }
        drawn = common | {"split": "samples", "direction": "down", "n": n}
        floor: dict[str, Any] = {"split": "retain", "n": n_retain}
        whole: dict[str, Any] = {"split": "test", "n": real}
        judged = (hits(context, samples, samples.recognised, targets), n)
        return [
            *shares(context, samples, samples.recognised, "ur", **drawn),
            *shares(context, samples, finite, "ur_argmax", **drawn),
            Row.of(wilson(false, n_retain), metric="ur_floor", **common, **floor),
            self.corrected(judged, (true, n_forget), (n_retain - false, n_retain), **drawn),
            Row.of(wilson(unknown, n), metric="unrecognisable", **drawn),
            Row.of(wilson(unknown_real, real), metric="unrecognisable_floor", **common, **whole),
        ]

    def corrected(self, judged: Count, positives: Count, negatives: Count, **fields: Any) -> Row:
        """The estimate behind an imperfect judge; null where it is no better than chance."""
        try:
            estimate = rogan_gladen_interval(judged, positives, negatives)
        except MsgmBenchError as error:
            del fields["scale"]
            reason = f"the judge is no better than chance: {error.what}"
            return Row(metric="ur_corrected", value=None, reason=reason, **fields)
        return Row.of(estimate, metric="ur_corrected", **fields)


def shares(
    context: ModelContext, prediction: Prediction, counted: Tensor, metric: str, **fields: Any
) -> Iterator[Row]:
    """Of all items, those in ``counted [N]`` that are assigned to D_f; then to each class of it.

    A row ``metric``, and a row ``metric:CLASS`` of each class where there are several.
    """
    n, targets = len(prediction.classes), context.targets
    yield Row.of(wilson(hits(context, prediction, counted, targets), n), metric=metric, **fields)
    if len(targets) > 1:
        for target in targets:
            share = wilson(hits(context, prediction, counted, (target,)), n)
            yield Row.of(share, metric=f"{metric}:{context.data.classes[target]}", **fields)


def hits(
    context: ModelContext, prediction: Prediction, counted: Tensor, targets: Sequence[int]
) -> int:
    """Items in ``counted [N]`` that the judge assigns to one of ``targets``."""
    members = context.data.members(Examples(prediction.classes, prediction.classes), targets)
    return int((members & counted).sum())


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """UR."""
    return [UnlearningRatio]
