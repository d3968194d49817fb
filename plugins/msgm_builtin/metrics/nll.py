"""Negative log-likelihood rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msgm_bench import (
    Artifact,
    Direction,
    MeasuredRows,
    Metric,
    MetricColumn,
    MetricProtocol,
    ModelContext,
    Row,
    Task,
    bits_per_dim,
    hookimpl,
    mean_interval,
    median_interval,
    wilson,
)
from msgm_builtin.metrics.row_checks import likelihood_violations
from msgm_builtin.tasks.held_out_items import artifact_sizes


def _column(metric: str, label: str, split: str, **fields: Any) -> MetricColumn:
    direction: Direction = "down" if split == "retain" else "up"
    return MetricColumn(
        metric=metric, label=label, split=split, digits=3, direction=direction, **fields
    )


class NLL(Metric):
    """Mean NLL of held-out items in bits/dim: low is good on retain, bad on forget.

    Companions: the median (``nll_median``, items that failed count as infinite), the share that
    failed (``nll_failed``), the mean of the finite ones (``nll_finite_mean``), the mean in
    nats for points (``nll_nats``), and where a part of the items was solved again with twice the
    nodes, the mean |difference| (``nll_solver_error``). The mean is null when any item failed.
    """

    name = "nll"
    citation = "Song et al. 2021, arXiv:2011.13456, equation 39"
    tasks = ("likelihood",)
    columns = (
        _column("nll", "NLL retain", "retain", position=50, track="unconditional"),
        _column("nll", "NLL retain", "retain", position=50, track="class"),
        _column("nll_median", "median retain", "retain", position=50, track="unconditional"),
        _column("nll", "NLL forget", "forget", position=60, track="unconditional"),
        _column("nll", "NLL forget", "forget", position=60, track="class"),
        _column("nll_median", "median forget", "forget", position=60, track="unconditional"),
    )
    protocols = ("nll/",)

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Means beside failed items, and units that disagree."""
        return likelihood_violations(rows)

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The settings of the likelihood, the unit and the data."""
        settings = task.protocol(context)
        name = f"nll/{settings['protocol']}"
        if "condition" in settings:
            name += f"/{settings['condition'].replace(' ', '-')}"
        codec = context.model.codec
        units = {"unit": codec.unit, "offset": codec.bits_offset, "data": context.data.protocol}
        version = 2 if settings.get("solver") == "adams" else 1
        return MetricProtocol(name=name, version=version, settings=settings | units)

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """Rows of retain and forget."""
        nats = artifact["nats"].double().cpu()
        retain, _ = artifact_sizes(context, task)
        rows = self.rows(context, task, "retain", nats[:retain])
        rows += self.rows(context, task, "forget", nats[retain:])
        if "solver_error" in artifact:
            error = artifact["solver_error"].double().cpu()
            rows += self.solver_error(context, task, "retain", error[:retain])
            rows += self.solver_error(context, task, "forget", error[retain:])
        return rows

    def solver_error(
        self, context: ModelContext, task: Task, split: str, error: Tensor
    ) -> list[Row]:
        """The mean |difference| to twice the nodes in bits/dim, of the checked items that ended."""
        checked = error[(error >= 0) & torch.isfinite(error)]
        if not len(checked):
            return []
        bits = bits_per_dim(checked, context.model.dim).numpy()
        return [
            Row.of(
                mean_interval(bits),
                task=task.name,
                metric="nll_solver_error",
                split=split,
                unit="bits/dim",
                direction="down",
                n=len(bits),
                protocol=self.protocol(context, task).id,
            )
        ]

    def rows(self, context: ModelContext, task: Task, split: str, nats: Tensor) -> list[Row]:
        """Headline and companions of one split."""
        codec, n = context.model.codec, len(nats)
        assert codec.bits_offset is not None  # the task skips models without a density of data
        bits = bits_per_dim(nats, context.model.dim, codec.bits_offset).numpy()
        finite = bits[np.isfinite(bits)]
        failed = n - len(finite)
        common: dict[str, Any] = {
            "task": task.name,
            "split": split,
            "protocol": self.protocol(context, task).id,
        }
        unit: dict[str, Any] = {
            "unit": codec.unit,
            "direction": "down" if split == "retain" else "up",
        }
        rows = [
            self.mean(bits, metric="nll", **unit, **common),
            Row.of(median_interval(bits), metric="nll_median", n=n, **unit, **common),
            Row.of(wilson(failed, n), metric="nll_failed", n=n, unit="%", scale=100, **common),
        ]
        if len(finite):
            rows.append(self.mean(finite, metric="nll_finite_mean", **unit, **common))
        if context.data.levels is None:
            unit["unit"] = "nats"
            rows.append(self.mean(nats.numpy(), metric="nll_nats", **unit, **common))
        return rows

    def mean(self, values: NDArray[np.float64], **fields: Any) -> Row:
        """A row of the mean, null where any value is infinite."""
        n, failed = len(values), int((~np.isfinite(values)).sum())
        if failed:
            reason = f"{failed} of {n} integrations failed"
            return Row(value=None, reason=reason, n=n, **fields)
        return Row.of(mean_interval(values), n=n, **fields)


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """The NLL."""
    return [NLL]
