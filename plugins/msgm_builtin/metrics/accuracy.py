"""Accuracy: the share of restored images whose judged class is the original's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from msgm_bench import (
    Artifact,
    Evidence,
    MeasuredRows,
    Metric,
    MetricProtocol,
    ModelContext,
    Row,
    Task,
    hookimpl,
    wilson,
)
from msgm_builtin.metrics.judged import check_lengths, named_targets, target_tensor
from msgm_builtin.metrics.row_checks import all_rows, share_violations
from msgm_builtin.tasks.restoration import image_pairs, task_protocol


class Accuracy(Metric):
    """Share of restored images whose judged class is the original's true one, in per cent.

    High is good on retain, low on forget. An image that is not finite is wrong. With attributes
    in the place of classes, all attributes to forget must agree. Companion: the same share of
    the originals (``acc_clean``), the accuracy that the judge can reach.
    """

    name = "acc"
    citation = "MSGM, arXiv:2412.07229, section 4.1 (inpainting and reconstruction)"
    tasks = ("inpainting", "reconstruction")
    protocols = ("acc/judge",)
    latest_version = 2

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Shares of no whole number of images."""
        return share_violations(all_rows(rows))

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The judge and the task."""
        return task_protocol("acc/judge", context, task, judge=dict(context.judge_id))

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """Accuracy of restored and of original images of both splits."""
        return self.recompute(self.gather(context, task, artifact))

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """True labels, judged ones of restored and of original images, and which are finite."""
        tensors = {"targets": target_tensor(context.targets)}
        for pair in image_pairs(context, task, artifact):
            tensors[f"{pair.split}_y"] = pair.y
            for name, x in (("restored", pair.restored), ("original", pair.original)):
                tensors[f"{pair.split}_{name}"] = context.judge.predict(x).classes
                finite = torch.isfinite(x).flatten(1).all(dim=1)
                tensors[f"{pair.split}_{name}_finite"] = finite
        return tensors

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The rows of ``measure`` from judged labels."""
        rows = []
        for split, direction in (("retain", "up"), ("forget", "down")):
            restored, original = (
                wilson(int(correct.sum()), len(correct))
                for correct in (
                    correct_mask(evidence, split, name) for name in ("restored", "original")
                )
            )
            common: dict[str, Any] = evidence.common | {"split": split, "unit": "%", "scale": 100}
            common["n"] = len(evidence.labels(f"{split}_y"))
            rows += [
                Row.of(restored, metric="acc", direction=direction, **common),
                Row.of(original, metric="acc_clean", **common),
            ]
        return rows


def correct_mask(evidence: Evidence, split: str, name: str) -> Tensor:
    """Mask ``[N]`` of the images of a split whose judged labels are the true ones."""
    y, classes = evidence.labels(f"{split}_y"), evidence.labels(f"{split}_{name}")
    finite = evidence.mask(f"{split}_{name}_finite")
    check_lengths(evidence, y, classes, finite)
    correct = classes == y
    if correct.ndim == 2:
        correct = correct[:, [*named_targets(evidence).values()]].all(dim=1)
    return correct & finite


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """Accuracy."""
    return [Accuracy]
