"""The unlearning ratio, and the companions that are needed to read it."""

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

    Companions: the share of all samples that are assigned to D_f, recognised or not, as in papers
    whose judges take the most likely class (``ur_argmax``; a sample that is not finite has no
    class), the share on real held-out D_g (``ur_floor``), the estimate corrected for the
    judge's errors on real data (``ur_corrected``, Rogan and Gladen 1978), and the share of
    samples that the judge does not recognise (``unrecognisable``), beside the same share of real
    held-out data (``unrecognisable_floor``): noise is not clean forgetting. Each of several
    classes to forget has its own shares (``ur:CLASS``, ``ur_argmax:CLASS``); classes that exclude
    each other add up to ``ur``, attributes may overlap.
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
        """The judge, the sampler and the number of samples."""
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
        false_hits, true_hits = (
            count_hits(context, v, v.recognised, targets) for v in (retain, forget)
        )
        n_real = n_retain + n_forget
        unrecognised = int((~samples.recognised).sum())
        unrecognised_real = int((~retain.recognised).sum() + (~forget.recognised).sum())
        common: dict[str, Any] = {
            "task": task.name,
            "protocol": self.protocol(context, task).id,
            "unit": "%",
            "scale": 100,
        }
        ratio = common | {"split": "samples", "direction": "down", "n": n}
        floor: dict[str, Any] = {"split": "retain", "n": n_retain}
        whole: dict[str, Any] = {"split": "test", "n": n_real}
        hits = (count_hits(context, samples, samples.recognised, targets), n)
        return [
            *share_rows(context, samples, samples.recognised, "ur", **ratio),
            *share_rows(context, samples, finite, "ur_argmax", **ratio),
            Row.of(wilson(false_hits, n_retain), metric="ur_floor", **common, **floor),
            self.corrected(hits, (true_hits, n_forget), (n_retain - false_hits, n_retain), **ratio),
            Row.of(wilson(unrecognised, n), metric="unrecognisable", **ratio),
            Row.of(
                wilson(unrecognised_real, n_real), metric="unrecognisable_floor", **common, **whole
            ),
        ]

    def corrected(self, hits: Count, positives: Count, negatives: Count, **fields: Any) -> Row:
        """The estimate of an imperfect judge; null where the judge is no better than chance.

        Args:
            hits: Samples assigned to D_f, of how many.
            positives: Real items of D_f assigned to D_f, of how many.
            negatives: Real items of D_g not assigned to D_f, of how many.
            fields: Further fields of the row.
        """
        try:
            estimate = rogan_gladen_interval(hits, positives, negatives)
        except MsgmBenchError as error:
            del fields["scale"]
            reason = f"the judge is no better than chance: {error.what}"
            return Row(metric="ur_corrected", value=None, reason=reason, **fields)
        return Row.of(estimate, metric="ur_corrected", **fields)


def share_rows(
    context: ModelContext, prediction: Prediction, mask: Tensor, metric: str, **fields: Any
) -> Iterator[Row]:
    """The share of items in ``mask [N]`` that are assigned to D_f, then to each of several classes.

    Rows ``metric`` and ``metric:CLASS``.
    """
    n, targets = len(prediction.classes), context.targets
    yield Row.of(wilson(count_hits(context, prediction, mask, targets), n), metric=metric, **fields)
    if len(targets) > 1:
        for target in targets:
            share = wilson(count_hits(context, prediction, mask, (target,)), n)
            yield Row.of(share, metric=f"{metric}:{context.data.classes[target]}", **fields)


def count_hits(
    context: ModelContext, prediction: Prediction, mask: Tensor, targets: Sequence[int]
) -> int:
    """Number of items in ``mask [N]`` that the judge assigns to one of ``targets``."""
    members = context.data.members(Examples(prediction.classes, prediction.classes), targets)
    return int((members & mask).sum())


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """UR."""
    return [UnlearningRatio]
