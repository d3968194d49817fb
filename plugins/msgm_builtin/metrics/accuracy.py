"""Whether restored images still show what the originals show."""

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
from msgm_builtin.metrics.row_checks import all_rows, no_shares
from msgm_builtin.tasks.restoration import Pair, pairs, protocol_of


class Accuracy(Metric):
    """Share of restored images whose judged class is the original's true one, in per cent.

    High is good on retain, low on forget. An image that is not finite is wrong. With attributes
    in the place of classes, all that are to be forgotten must agree. Companion: the same share
    of the originals themselves (``acc_clean``), which is what the judge can reach.
    """

    name = "acc"
    citation = "MSGM, arXiv:2412.07229, section 4.1 (inpainting and reconstruction)"
    tasks = ("inpainting", "reconstruction")
    protocols = ("acc/judge",)

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Shares of no whole count."""
        return no_shares(all_rows(rows))

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The judge and the task."""
        return protocol_of("acc/judge", context, task, judge=dict(context.judge_id))

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """Accuracy of both splits, and what it is at best."""
        rows = []
        for pair in pairs(context, task, artifact):
            common: dict[str, Any] = {
                "task": task.name,
                "split": pair.split,
                "protocol": self.protocol(context, task).id,
                "unit": "%",
                "scale": 100,
                "n": len(pair.y),
            }
            direction = "up" if pair.split == "retain" else "down"
            right, clean = (self.right(context, pair, x) for x in (pair.restored, pair.original))
            rows += [
                Row.of(wilson(right, len(pair.y)), metric="acc", direction=direction, **common),
                Row.of(wilson(clean, len(pair.y)), metric="acc_clean", **common),
            ]
        return rows

    def right(self, context: ModelContext, pair: Pair, x: Tensor) -> int:
        """Images ``x`` that are judged as the true labels say."""
        judged = context.judge.predict(x).classes.to(pair.y.device)
        equal = judged == pair.y
        if equal.ndim == 2:
            equal = equal[:, list(context.targets)].all(dim=1)
        return int((equal & torch.isfinite(x).flatten(1).all(dim=1)).sum())


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """Accuracy."""
    return [Accuracy]
