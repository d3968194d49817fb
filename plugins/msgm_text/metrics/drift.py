"""Rows of the drift: mean squared change of the noise prediction, by group of prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from msgm_bench import (
    Artifact,
    Direction,
    Evidence,
    Interval,
    MeasuredRows,
    Metric,
    MetricProtocol,
    ModelContext,
    Row,
    Task,
    hookimpl,
    mean_interval,
)
from msgm_builtin.metrics.embedding import row_or_reason
from msgm_builtin.metrics.judged import check_lengths
from msgm_builtin.metrics.row_checks import out_of_range
from msgm_text.metrics.prompt_evidence import group_tensors, items_of_groups, storable
from msgm_text.metrics.prompt_metric import RETAINED
from msgm_text.tasks.prompt_sets import book_of


class DriftMetric(Metric):
    """Mean of |eps_hat - eps_hat_base|^2 / D over prompts for retained concepts: low is good.

    Companions: ``drift_relative``, the mean of |eps_hat - eps_hat_base|^2 / |eps_hat_base|^2, and
    both of each group of prompts (``drift_GROUP``, ``drift_relative_GROUP``). That of prompts for
    the concepts to forget has no direction: it says how much was done, not how well.
    """

    name = "drift"
    tasks = ("drift",)
    protocols = ("drift/",)

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Negative squares."""
        return out_of_range(rows, 0.0, torch.inf)

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The prompts, and how x_t is drawn."""
        settings = {
            task.name: task.protocol(context),
            "prompts": book_of(context.data).digest,
            "data": context.data.protocol,
        }
        return MetricProtocol(name="drift/base-samples", version=1, settings=settings)

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """Rows of retained prompts, then of each group."""
        return self.recompute(self.gather(context, task, artifact))

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """Both squares of each item, and its group of prompts."""
        squares = {name: storable(artifact[name]) for name in ("drift", "base")}
        return squares | group_tensors(context, artifact)

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The rows of ``measure`` from the squares of each item."""
        drift, base = evidence.numbers("drift"), evidence.numbers("base")
        check_lengths(evidence, drift, base)
        common: dict[str, Any] = evidence.common | {"split": "samples", "unit": "1"}
        rows = []
        for suffix, chosen, is_retained in items_of_groups(evidence, RETAINED, len(drift)):
            direction: Direction = "down" if is_retained else "none"
            for metric, values in (("drift", drift), ("drift_relative", drift / base)):
                rows.append(
                    mean_row(values[chosen], metric=metric + suffix, direction=direction, **common)
                )
        return rows


def mean_row(values: Tensor, **fields: Any) -> Row:
    """The mean of ``values [N]`` with Student's interval; null where one is not finite."""

    def mean() -> Interval:
        return mean_interval(values.numpy())

    return row_or_reason(mean, n=len(values), **fields)


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """Drift."""
    return [DriftMetric]
