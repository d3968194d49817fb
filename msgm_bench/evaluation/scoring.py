"""Rows from artifacts: every metric on every task that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgm_bench.api import Embedder, Metric, MetricProtocol, ModelContext, Row, Task
from msgm_bench.errors import PluginError
from msgm_bench.evaluation.artifacts import ARTIFACT
from msgm_bench.experiment.judge import doubt, stamped
from msgm_bench.experiment.plan import Plan, identity
from msgm_bench.registry import registry
from msgm_bench.storage.tensors import load_tensors
from msgm_bench.training import Runtime

REFERENCE = "reference.safetensors"


def looking(metric: Metric) -> dict[str, Any]:
    """Identity of a metric, of the plugins that it looks with, and of their weights."""
    used = []
    for kind, chosen in sorted(metric.uses().items()):
        plugin = registry().create(kind, *chosen)
        weights = plugin.checksum() if isinstance(plugin, Embedder) else ""
        used.append(identity(plugin) | {"weights": weights})
    return identity(metric) | {"uses": used}


def with_precision(protocol: MetricProtocol, task: Task, runtime: Runtime) -> MetricProtocol:
    """The protocol with the precision in which its items were drawn, where that is not fp32."""
    if task.measures or runtime.precision == "fp32":
        return protocol
    settings = protocol.settings | {"sampling_precision": runtime.precision}
    return protocol.model_copy(update={"settings": settings})


def measured(plan: Plan, examined: ModelContext, needs: Mapping[str, Path]) -> dict[str, Any]:
    """Rows, and the protocols that they name.

    Raises:
        PluginError: Two protocols share an id.
    """
    rows: list[Row] = []
    protocols: dict[str, Any] = {}
    doubts = doubt(plan.judge, plan.targets)
    for metric in plan.metrics:
        folder = needs.get(f"refer {metric.name}")
        reference = {} if folder is None else load_tensors(folder / REFERENCE)
        looked = replace(examined, reference=reference)
        for task in (plan.tasks[name] for name in metric.tasks if name in plan.tasks):
            found = metric.measure(looked, task, load_tensors(needs[task.name] / ARTIFACT))
            protocol = with_precision(metric.protocol(looked, task), task, plan.runtime)
            rows += stamped(found, protocol, doubts)
            record = {"hash": protocol.hash, "settings": protocol.settings}
            if protocols.setdefault(protocol.id, record) != record:
                raise PluginError(
                    f"metric {metric.name!r} on {task.name!r}: the protocol {protocol.id} already "
                    "means something else",
                    "an id for each meaning",
                )
    return {"rows": [row.model_dump() for row in rows], "protocols": protocols}
