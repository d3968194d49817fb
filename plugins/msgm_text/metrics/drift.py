"""Rows of the drift: mean squared change of the noise prediction, by group of prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from msgm_bench import (
    Artifact,
    Direction,
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
from msgm_builtin.metrics.row_checks import out_of_range
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
        drift = artifact["drift"].double().cpu()
        relative = drift / artifact["base"].double().cpu()
        prompts = artifact["prompt"].cpu()
        protocol = self.protocol(context, task).id
        common: dict[str, Any] = {
            "task": task.name,
            "split": "samples",
            "protocol": protocol,
            "unit": "1",
        }
        groups = {k: v for k, v in book_of(context.data).groups(context.targets).items() if v}
        retained = [i for group in RETAINED for i in groups.get(group, ())]
        rows = []
        for name, members in {"": retained, **{f"_{k}": v for k, v in groups.items()}}.items():
            chosen = torch.isin(prompts, torch.tensor(members))
            is_retained = name.removeprefix("_") in ("", *RETAINED)
            direction: Direction = "down" if is_retained else "none"
            for metric, values in (("drift", drift), ("drift_relative", relative)):
                rows.append(
                    mean_row(values[chosen], metric=metric + name, direction=direction, **common)
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
