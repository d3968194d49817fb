"""What a metric keeps: rows that say what they are of, and the same ones every time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch

from msgm_bench.api import Artifact, Metric, MetricProtocol, ModelContext, Row, Task
from msgm_bench.errors import UnknownNameError
from msgm_bench.registry import registry
from msgm_bench.testing.plugins import check_plugin, variations
from msgm_bench.testing.tasks import small, small_subject

HELD_OUT = 240  # toy images, a quarter of them held out
MANY = 16  # items of a split; half of them are measured, too


def check_metric(
    cls: type[Metric],
    options: Mapping[str, Any] | None = None,
    *,
    context: ModelContext | None = None,
    tasks: Mapping[str, Task] | None = None,
) -> None:
    """What a metric must keep on every task that it reads, for toy models of both tracks.

    Rows name the task, an existing protocol, a unit, and how many items are behind them: fewer
    where the artifact holds fewer. The first row is the headline and says which way is better. A
    value lies in its interval. Measured twice, whatever torch's global generator says, the rows
    are equal; artifact and model stay as they are. The protocol's hash stays the same, and changes
    with every option that changes a value; its settings are JSON.

    Args:
        cls: The metric.
        options: Its options.
        context: A model under evaluation, for metrics that have nothing to say of toy images.
        tasks: Instances of the tasks that it reads, by name; small ones of the registered ones.
    """
    check_plugin(cls)
    name, metric = cls.name, cls.create(options)
    reads = isinstance(cls.tasks, tuple) and all(isinstance(task, str) for task in cls.tasks)
    assert reads, f"{name}: tasks is {cls.tasks!r}, not a tuple of names"
    scenes = [context] if context else [small_subject(classes, HELD_OUT) for classes in (None, 3)]
    tried, ids = 0, dict[str, MetricProtocol]()
    for scene in scenes:
        if metric.skip(scene, scene.model) is not None:
            continue
        reference = _reference(metric, scene)
        for task in _tasks(cls, scene, tasks):
            tried += 1
            examined = replace(scene, reference=reference)
            protocol = _check(metric, examined, task)
            known = ids.setdefault(protocol.id, protocol)
            assert known == protocol, f"{name}: {protocol.id} means one thing here, another there"
    assert tried, f"{name}: says nothing of these data and models on any of {cls.tasks}"


def _reference(metric: Metric, scene: ModelContext) -> Artifact:
    if not metric.needs_reference(scene):
        return {}
    first, second = metric.compute_reference(scene), metric.compute_reference(scene)
    same = first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
    assert same, f"{metric.name}: its reference changes from call to call"
    return first


def _tasks(cls: type[Metric], scene: ModelContext, tasks: Mapping[str, Task] | None) -> list[Task]:
    """The tasks of ``cls`` that such models do."""
    chosen = []
    for name in cls.tasks:
        if tasks is not None and name in tasks:
            task = tasks[name]
        else:
            try:
                task = small(cast(type[Task], registry().entry("tasks", name).cls))
            except UnknownNameError as error:
                raise AssertionError(f"{cls.name}: reads an unknown task: {error}") from error
            task = shortened(task, MANY)
        if task.skip(scene.model) is None:
            chosen.append(task.with_model_defaults(scene.model))
    return chosen


def shortened(task: Task, samples: int) -> Task:
    """The task as ``--samples`` would make it."""
    options = task.options.model_dump(exclude_unset=True)
    sizes = dict.fromkeys(task.options.limit_samples(samples), samples)
    return type(task).create(options | sizes)


def _check(metric: Metric, context: ModelContext, task: Task) -> MetricProtocol:
    label = f"{metric.name} on {task.name}"
    artifact = task.draw(context, 0, task.total(context))
    copies = {name: values.clone() for name, values in artifact.items()}
    torch.manual_seed(0)
    rows, protocol = metric.measure(context, task, artifact), metric.protocol(context, task)
    changed = [name for name in copies if not _same(copies[name], artifact[name])]
    assert not changed, f"{label}: measuring changes {changed[0]!r} of the artifact"
    _check_rows(label, rows, task, protocol, context, artifact)
    _check_columns(label, metric, rows)
    torch.manual_seed(1)
    again = metric.measure(context, task, artifact)
    assert again == rows, f"{label}: measured again, its rows are others: seed what is random"
    _check_protocol(label, metric, context, task, artifact, rows)
    half = shortened(task, MANY // 2)
    if half.total(context) < task.total(context):
        fewer = metric.measure(context, half, half.draw(context, 0, half.total(context)))
        counted = fewer[0].n < rows[0].n or rows[0].value is None
        assert counted, f"{label}: n is {fewer[0].n} of fewer items, as of all: count what is read"
    return protocol


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool(torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)))


def _check_rows(
    label: str,
    rows: list[Row],
    task: Task,
    protocol: MetricProtocol,
    context: ModelContext,
    artifact: Artifact,
) -> None:
    assert rows, f"{label}: no row"
    keys = [row.key for row in rows]
    assert len(set(keys)) == len(keys), f"{label}: two rows have one name, split and protocol"
    better = rows[0].direction != "none"
    assert better, f"{label}: the first row is the headline and says no direction"
    most = max(len(values) for values in artifact.values())
    most = max(most, len(context.retain) + len(context.forget))
    for row in rows:
        called = f"{label}: {row.metric} of {row.split}"
        assert row.task == task.name, f"{called} names the task {row.task!r}"
        assert row.protocol == protocol.id, f"{called} names the protocol {row.protocol!r}"
        assert row.unit, f"{called} has no unit"
        assert row.n <= most, f"{called} counts {row.n} items, of {most} that there are"
        if row.value is None:
            continue
        assert row.n > 0, f"{called} has a value of no items"
        low = -math.inf if row.low is None else row.low
        high = math.inf if row.high is None else row.high
        assert low <= row.value <= high, f"{called}: {row.value} is not in [{low}, {high}]"


def _check_columns(label: str, metric: Metric, rows: list[Row]) -> None:
    """Rows with a column have the direction that the column declares."""
    for column in metric.columns:
        for row in rows:
            fits = (row.metric, row.split) == (column.metric, column.split)
            if fits and column.protocol in (None, row.protocol):
                same = row.direction == column.direction
                assert same, (
                    f"{label}: {row.metric} on {row.split} is {row.direction!r}, its column "
                    f"{column.label!r} says {column.direction!r}"
                )


def _check_protocol(
    label: str,
    metric: Metric,
    context: ModelContext,
    task: Task,
    artifact: Artifact,
    rows: list[Row],
) -> None:
    protocol = metric.protocol(context, task)
    json.dumps(protocol.settings, allow_nan=False)
    again = type(metric).create(metric.options.model_dump()).protocol(context, task)
    assert again.hash == protocol.hash, f"{label}: the hash of its protocol changes"
    for option, other in variations(metric):
        assert isinstance(other, Metric)
        if other.protocol(context, task).hash == protocol.hash:
            same = other.measure(context, task, artifact) == rows
            assert same, f"{label}: option {option!r} changes its rows, not its protocol"
