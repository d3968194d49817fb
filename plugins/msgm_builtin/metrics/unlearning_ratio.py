"""The unlearning ratio, and the companions that are needed to read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
    MsgmBenchError,
    Row,
    Task,
    hookimpl,
    rogan_gladen_interval,
    wilson,
)
from msgm_builtin.metrics.judged import (
    Judged,
    check_lengths,
    judged_tensors,
    named_targets,
    target_tensor,
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
        return self.recompute(self.gather(context, task, artifact))

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """Classes of samples and of held-out items, and which samples are finite."""
        x = context.model.codec.decode(artifact["x"].to(context.device))
        parts = {
            "samples": x,
            "retain": context.visible(context.retain),
            "forget": context.visible(context.forget),
        }
        judged = {name: context.judge.predict(part) for name, part in parts.items()}
        tensors = [judged_tensors(name, prediction) for name, prediction in judged.items()]
        finite = torch.isfinite(x).flatten(1).all(dim=1)
        own = {"finite": finite, "targets": target_tensor(context.targets)}
        return {name: tensor for part in (own, *tensors) for name, tensor in part.items()}

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The rows of ``measure`` from judged classes."""
        samples, retain, forget = (
            Judged.of(evidence, name) for name in ("samples", "retain", "forget")
        )
        finite, named = evidence.mask("finite"), named_targets(evidence)
        check_lengths(evidence, samples.classes, finite)
        n, n_retain, n_forget = len(samples), len(retain), len(forget)
        targets, n_real = [*named.values()], len(retain) + len(forget)
        false_hits, true_hits = (part.hits(part.recognised, targets) for part in (retain, forget))
        unrecognised = int((~samples.recognised).sum())
        unrecognised_real = int((~retain.recognised).sum() + (~forget.recognised).sum())
        common: dict[str, Any] = evidence.common | {"unit": "%", "scale": 100}
        ratio = common | {"split": "samples", "direction": "down", "n": n}
        floor: dict[str, Any] = {"split": "retain", "n": n_retain}
        whole: dict[str, Any] = {"split": "test", "n": n_real}
        hits = (samples.hits(samples.recognised, targets), n)
        return [
            *share_rows(samples, samples.recognised, named, "ur", **ratio),
            *share_rows(samples, finite, named, "ur_argmax", **ratio),
            Row.of(wilson(false_hits, n_retain), metric="ur_floor", **common, **floor),
            corrected(hits, (true_hits, n_forget), (n_retain - false_hits, n_retain), **ratio),
            Row.of(wilson(unrecognised, n), metric="unrecognisable", **ratio),
            Row.of(
                wilson(unrecognised_real, n_real), metric="unrecognisable_floor", **common, **whole
            ),
        ]


def corrected(hits: Count, positives: Count, negatives: Count, **fields: Any) -> Row:
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
    judged: Judged, mask: Tensor, targets: Mapping[str, int], metric: str, **fields: Any
) -> Iterator[Row]:
    """The share of items in ``mask [N]`` that are assigned to D_f, then to each of several classes.

    Rows ``metric`` and ``metric:CLASS``.
    """
    n = len(judged)
    yield Row.of(wilson(judged.hits(mask, [*targets.values()]), n), metric=metric, **fields)
    if len(targets) > 1:
        for name, target in targets.items():
            yield Row.of(
                wilson(judged.hits(mask, [target]), n), metric=f"{metric}:{name}", **fields
            )


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """UR."""
    return [UnlearningRatio]
