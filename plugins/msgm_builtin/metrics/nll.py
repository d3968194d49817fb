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
    Evidence,
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

SPLITS = ("retain", "forget")


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
    latest_version = 2

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
        return self.recompute(self.gather(context, task, artifact))

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """NLL of each item in nats, what the solver was off by, D, and whether items are points."""
        retain, _ = artifact_sizes(context, task)
        is_discrete = context.data.levels is not None
        tensors = {
            "dim": torch.tensor(context.model.dim),
            "discrete": torch.tensor(is_discrete),
        }
        for name in ("nats", "solver_error"):
            if name in artifact:
                values = artifact[name].double()
                tensors[f"retain_{name}"], tensors[f"forget_{name}"] = (
                    values[:retain],
                    values[retain:],
                )
        return tensors

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The rows of ``measure`` from the NLL of each item."""
        rows = [row for split in SPLITS for row in split_rows(evidence, split)]
        return rows + [row for split in SPLITS for row in solver_error(evidence, split)]


def split_rows(evidence: Evidence, split: str) -> list[Row]:
    """Headline and companions of one split."""
    nats, settings = evidence.numbers(f"{split}_nats"), evidence.settings
    offset = settings["offset"]
    assert offset is not None  # the task skips models without a density of data
    bits = bits_per_dim(nats, evidence.count("dim"), offset).numpy()
    finite, n = bits[np.isfinite(bits)], len(bits)
    common: dict[str, Any] = evidence.common | {"split": split}
    unit: dict[str, Any] = {
        "unit": settings["unit"],
        "direction": "down" if split == "retain" else "up",
    }
    failed = wilson(n - len(finite), n)
    rows = [
        mean_row(bits, metric="nll", **unit, **common),
        Row.of(median_interval(bits), metric="nll_median", n=n, **unit, **common),
        Row.of(failed, metric="nll_failed", n=n, unit="%", scale=100, **common),
    ]
    if len(finite):
        rows.append(mean_row(finite, metric="nll_finite_mean", **unit, **common))
    if not evidence.mask("discrete", 0):
        unit["unit"] = "nats"
        rows.append(mean_row(nats.numpy(), metric="nll_nats", **unit, **common))
    return rows


def solver_error(evidence: Evidence, split: str) -> list[Row]:
    """The mean |difference| to twice the nodes in bits/dim, of the checked items that ended."""
    if f"{split}_solver_error" not in evidence:
        return []
    error = evidence.numbers(f"{split}_solver_error")
    checked = error[(error >= 0) & torch.isfinite(error)]
    if not len(checked):
        return []
    bits = bits_per_dim(checked, evidence.count("dim")).numpy()
    fields: dict[str, Any] = evidence.common | {"split": split, "unit": "bits/dim"}
    row = Row.of(
        mean_interval(bits), metric="nll_solver_error", direction="down", n=len(bits), **fields
    )
    return [row]


def mean_row(values: NDArray[np.float64], **fields: Any) -> Row:
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
