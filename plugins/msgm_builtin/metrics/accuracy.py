"""Accuracy: the share of restored images whose judged class is the original's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from msgm_bench import (
    Artifact,
    MeasuredRows,
    Metric,
    MetricProtocol,
    ModelContext,
    Row,
    Task,
    hookimpl,
    wilson,
)
from msgm_builtin.metrics.row_checks import all_rows, share_violations
from msgm_builtin.tasks.restoration import ImagePairs, image_pairs, task_protocol


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

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Shares of no whole number of images."""
        return share_violations(all_rows(rows))

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The judge and the task."""
        return task_protocol("acc/judge", context, task, judge=dict(context.judge_id))

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """Accuracy of restored and of original images of both splits."""
        rows = []
        for pair in image_pairs(context, task, artifact):
            common: dict[str, Any] = {
                "task": task.name,
                "split": pair.split,
                "protocol": self.protocol(context, task).id,
                "unit": "%",
                "scale": 100,
                "n": len(pair.y),
            }
            direction = "up" if pair.split == "retain" else "down"
            restored, original = (
                wilson(self.count_correct(context, pair, x), len(pair.y))
                for x in (pair.restored, pair.original)
            )
            rows += [
                Row.of(restored, metric="acc", direction=direction, **common),
                Row.of(original, metric="acc_clean", **common),
            ]
        return rows

    def count_correct(self, context: ModelContext, pair: ImagePairs, x: Tensor) -> int:
        """Number of images ``x`` whose judged labels are the true ones."""
        classes = context.judge.predict(x).classes.to(pair.y.device)
        correct = classes == pair.y
        if correct.ndim == 2:
            correct = correct[:, list(context.targets)].all(dim=1)
        return int((correct & torch.isfinite(x).flatten(1).all(dim=1)).sum())


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """Accuracy."""
    return [Accuracy]
