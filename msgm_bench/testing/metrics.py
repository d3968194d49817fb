"""What a metric keeps: rows that say what they are of, and the same ones every time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from msgm_bench.api import Metric, MetricProtocol, ModelContext, Task
from msgm_bench.evaluation.evidence import differences
from msgm_bench.storage.tensors import pack_tensors, unpack_tensors
from msgm_bench.testing.checks import Check, require
from msgm_bench.testing.metric_trials import (
    MANY,
    MetricCase,
    MetricTrial,
    control_of,
    reference_of,
    shortened,
)
from msgm_bench.testing.plugins import PLUGIN_CHECKS, variations


def _of_all(function: Callable[[MetricTrial], object]) -> Callable[[MetricCase], None]:
    """``function`` on every trial."""

    def check(case: MetricCase) -> None:
        for trial in case.trials:
            function(trial)

    return check


def _check_names(case: MetricCase) -> None:
    tasks = case.cls.tasks
    reads = isinstance(tasks, tuple) and all(isinstance(task, str) for task in tasks)
    assert reads, f"{case.cls.name}: tasks is {tasks!r}, not a tuple of names"


def _check_reference(case: MetricCase) -> str | None:
    used = [bool(reference_of(case.metric, context)) for context in case.contexts]
    return None if any(used) else "it needs no reference"


def _check_ids(case: MetricCase) -> None:
    ids = dict[str, MetricProtocol]()
    for trial in case.trials:
        known = ids.setdefault(trial.protocol.id, trial.protocol)
        same = known == trial.protocol
        assert same, f"{case.cls.name}: {known.id} means one thing here, another there"


def _check_purity(trial: MetricTrial) -> None:
    artifact = {name: values.clone() for name, values in trial.artifact.items()}
    trial.metric.measure(trial.context, trial.task, artifact)
    changed = [name for name in artifact if not _same(artifact[name], trial.artifact[name])]
    assert not changed, f"{trial.label}: measuring changes {changed[0]!r} of the artifact"


def _check_repeatable(trial: MetricTrial) -> None:
    rows = trial.rows
    torch.manual_seed(1)
    same = trial.measure() == rows
    assert same, f"{trial.label}: measured again, its rows are others: seed what is random"


def _check_counts(trial: MetricTrial) -> None:
    half, context = shortened(trial.task, MANY // 2), trial.context
    context = replace(context, control=control_of(context, half))
    if half.total(context) < trial.task.total(context):
        artifact = half.draw(context, 0, half.total(context))
        fewer, n = trial.metric.measure(context, half, artifact)[0].n, trial.rows[0].n
        counted = fewer < n or trial.rows[0].value is None
        label = trial.label
        assert counted, f"{label}: n is {fewer} of fewer items, as of all: count what is read"


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool(torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)))


def _check_rows(trial: MetricTrial) -> None:
    label, rows, task, context = trial.label, trial.rows, trial.task, trial.context
    protocol, artifact = trial.protocol, trial.artifact
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


def _check_columns(case: MetricCase) -> str | None:
    for trial in case.trials:
        _check_directions(trial)
    return None if case.cls.columns else "it declares no columns"


def _check_directions(trial: MetricTrial) -> None:
    """Rows with a column have the direction that the column declares."""
    for column in trial.metric.columns:
        for row in trial.rows:
            fits = (row.metric, row.split) == (column.metric, column.split)
            if fits and column.protocol in (None, row.protocol):
                same = row.direction == column.direction
                assert same, (
                    f"{trial.label}: {row.metric} on {row.split} is {row.direction!r}, its column "
                    f"{column.label!r} says {column.direction!r}"
                )


def _check_protocol(trial: MetricTrial) -> None:
    label, metric, context, task = trial.label, trial.metric, trial.context, trial.task
    protocol, artifact, rows = trial.protocol, trial.artifact, trial.rows
    json.dumps(protocol.settings, allow_nan=False)
    again = type(metric).create(metric.options.model_dump()).protocol(context, task)
    assert again.hash == protocol.hash, f"{label}: the hash of its protocol changes"
    for option, other in variations(metric):
        assert isinstance(other, Metric)
        if other.protocol(context, task).hash == protocol.hash:
            same = other.measure(context, task, artifact) == rows
            assert same, f"{label}: option {option!r} changes its rows, not its protocol"


def _check_evidence(case: MetricCase) -> str | None:
    used = [_follows_from_evidence(trial) for trial in case.trials]
    return None if any(used) else "it has no evidence: its values stay claimed on boards"


def _follows_from_evidence(trial: MetricTrial) -> bool:
    """Whether it has evidence, from which its rows follow then, as of a file."""
    metric, label = trial.metric, trial.label
    evidence = metric.gather(trial.context, trial.task, trial.artifact)
    if not evidence.tensors:
        return False
    stored = unpack_tensors(pack_tensors(evidence.tensors), "evidence")
    wrong = list(differences(type(metric), replace(evidence, tensors=stored), trial.rows))
    assert not wrong, f"{label}: {wrong[0]}"
    return True


def _check_version(trial: MetricTrial) -> None:
    cls, protocol = type(trial.metric), trial.protocol
    if cls.protocols:
        known = protocol.name.startswith(cls.protocols)
        assert known, f"{trial.label}: the name {protocol.name!r} begins with no {cls.protocols}"
    known = protocol.version <= cls.latest_version
    assert known, f"{trial.label}: {protocol.id} is beyond latest_version = {cls.latest_version}"


METRIC_CHECKS: tuple[Check[MetricCase], ...] = (
    *PLUGIN_CHECKS,
    Check("tasks", "a tuple of names of tasks", _check_names, True),
    Check("reference", "what no model changes is the same from call to call", _check_reference),
    Check("purity", "measuring changes nothing of the artifact", _of_all(_check_purity)),
    Check("rows", "task, protocol, unit, count, direction, interval", _of_all(_check_rows)),
    Check("columns", "rows have the direction that their column declares", _check_columns),
    Check("repeatability", "the same rows twice, whatever the seed", _of_all(_check_repeatable)),
    Check("counts", "n is less of fewer items", _of_all(_check_counts)),
    Check("protocol", "JSON whose hash changes with the values", _of_all(_check_protocol)),
    Check("protocol-version", "boards know name and version", _of_all(_check_version)),
    Check("evidence", "the rows follow from what submissions ship", _check_evidence),
    Check("protocol-id", "one id means one protocol on every model", _check_ids),
)


def check_metric(
    cls: type[Metric],
    options: Mapping[str, Any] | None = None,
    *,
    context: ModelContext | None = None,
    tasks: Mapping[str, Task] | None = None,
) -> None:
    """What a metric must keep on every task that it reads, for toy models of all tracks.

    Rows name the task, an existing protocol, a unit, and how many items are behind them: fewer
    where the artifact holds fewer. The first row is the headline and says which way is better. A
    value lies in its interval. Measured twice, whatever torch's global generator says, the rows
    are equal; artifact and model stay as they are. The protocol's hash stays the same, and changes
    with every option that changes a value; its settings are JSON. Where the metric has evidence,
    its rows follow from that alone.

    Args:
        cls: The metric.
        options: Its options.
        context: A model under evaluation, for metrics that have nothing to say of toy images.
        tasks: Instances of the tasks that it reads, by name; small ones of the registered ones.
    """
    require(METRIC_CHECKS, MetricCase(cls, options, context, tasks))
