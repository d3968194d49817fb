"""Rows from artifacts: metrics measure tasks, and a judge below its gate stamps their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from msgm_bench.api import Artifact, Judge, Metric, MetricProtocol, ModelContext, Row, Task
from msgm_bench.errors import PluginError


@dataclass
class Scores:
    """Rows, and the protocols that they name.

    Attributes:
        rows: The rows.
        protocols: Hash and settings of each protocol that has rows, by its id.
    """

    rows: list[Row] = field(default_factory=list)
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    _declared: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False, compare=False)

    def add(self, rows: Iterable[Row], protocol: MetricProtocol) -> None:
        """Append rows of one protocol, which is recorded where there are some.

        Raises:
            PluginError: Another protocol has the same id.
        """
        record = {"hash": protocol.hash, "settings": protocol.settings}
        if self._declared.setdefault(protocol.id, record) != record:
            raise PluginError(
                f"the protocol {protocol.id} already means something else", "an id for each meaning"
            )
        if added := list(rows):
            self.protocols[protocol.id] = record
            self.rows += added

    def record(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return {"rows": [row.model_dump() for row in self.rows], "protocols": self.protocols}


@dataclass(frozen=True)
class Readings:
    """What metrics read, of one model.

    Attributes:
        metrics: The metrics.
        tasks: Tasks by name.
        context: The model, the data and the fitted judge.
        artifact: Tensors that a task drew, by its name; read one at a time, for they are large.
        reference: Tensors of a metric's reference, by its name; empty where it has none.
        control: Tensors that a task drew from the control, by its name; empty where it has none.
        base_artifact: Tensors that a task drew from the base model, by its name.
    """

    metrics: Sequence[Metric]
    tasks: Mapping[str, Task]
    context: ModelContext
    artifact: Callable[[str], Artifact]
    reference: Callable[[str], Artifact]
    control: Callable[[str], Artifact]
    base_artifact: Callable[[str], Artifact]

    def __iter__(self) -> Iterator[tuple[Metric, ModelContext, Task]]:
        """Every metric on every task that it reads, with the context that it sees."""
        for metric in self.metrics:
            seen = replace(self.context, reference=self.reference(metric.name))
            for task in (self.tasks[name] for name in metric.tasks if name in self.tasks):
                base = self.base_artifact(task.name) if metric.needs_base else {}
                seen = replace(seen, control=self.control(task.name), base_artifact=base)
                yield metric, seen, task


def score(readings: Readings, precision: str = "fp32") -> Scores:
    """Measure every metric on every task that it reads.

    Args:
        readings: The metrics, and what they read.
        precision: Precision in which samples were drawn.

    Raises:
        PluginError: Two protocols share an id.
    """
    scores, context = Scores(), readings.context
    stamp = gate_stamp(context.judge, context.targets)
    for metric, seen, task in readings:
        rows = metric.measure(seen, task, readings.artifact(task.name))
        protocol = sampling_protocol(metric.protocol(seen, task), task, precision)
        try:
            scores.add(stamped_rows(rows, protocol, stamp), protocol)
        except PluginError as error:
            where = f"metric {metric.name!r} on {task.name!r}: {error.what}"
            raise PluginError(where, error.allowed) from error
    return scores


def sampling_protocol(protocol: MetricProtocol, task: Task, precision: str) -> MetricProtocol:
    """The protocol with the precision in which its items were drawn, where that is not fp32."""
    if task.measures or precision == "fp32":
        return protocol
    settings = protocol.settings | {"sampling_precision": precision}
    return protocol.model_copy(update={"settings": settings})


def gate_stamp(judge: Judge, targets: Sequence[int]) -> str | None:
    """Stamp of values that rest on the fitted judge where it misses its gate, or None."""
    quality, gate = judge.quality(targets), judge.options.gate
    if quality is not None and quality >= gate:
        return None
    value = "could not be measured" if quality is None else f"is {quality:.2%}"
    return f"the judge {judge.name!r} misses its gate: {judge.criterion} {value}, asked {gate:.2%}"


def stamped_rows(rows: Iterable[Row], protocol: MetricProtocol, stamp: str | None) -> list[Row]:
    """The rows; those with a value carry the stamp where their protocol rests on the judge."""
    if stamp is None or "judge" not in protocol.settings:
        return list(rows)
    return [row if row.value is None else row.model_copy(update={"stamp": stamp}) for row in rows]
