"""What a metric keeps: rows that say what they are of, and the same ones every time."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch

from msgm_bench.api import Artifact, Metric, MetricProtocol, ModelContext, Row, Task
from msgm_bench.errors import UnknownNameError
from msgm_bench.registry import registry
from msgm_bench.testing.checks import Check, require
from msgm_bench.testing.plugins import PLUGIN_CHECKS, variations
from msgm_bench.testing.tasks import small, small_subject
from msgm_bench.testing.toys import (
    CPU,
    SEED,
    ToyPointsJudge,
    toy_model,
    toy_points,
    toy_subject,
)

HELD_OUT = 240  # toy images, a quarter of them held out
MANY = 16  # items of a split; half of them are measured, too


@dataclass(frozen=True, eq=False)
class MetricCase:
    """A metric under check.

    Attributes:
        cls: The metric.
        options: Its options.
        context: A model under evaluation; toy models of images, and of points for a metric that
            has nothing to say of images, without it.
        tasks: Instances of the tasks that it reads, by name; small ones of the registered ones.
    """

    cls: type[Metric]
    options: Mapping[str, Any] | None = None
    context: ModelContext | None = None
    tasks: Mapping[str, Task] | None = None

    @property
    def metric(self) -> Metric:
        """With its options."""
        return self.cls.create(self.options)

    def obstacle(self) -> str | None:
        """Why it says nothing of any of the models."""
        if self.subjects:
            return None
        reasons = (self.metric.skip(context, context.model) for context in self._images())
        known = "; ".join(dict.fromkeys(reason for reason in reasons if reason))
        return f"it says nothing of these data and models: {known}"

    def _images(self) -> list[ModelContext]:
        """Models of images of both tracks, unless another one is to be looked at."""
        if self.context is not None:
            return [self.context]
        return [small_subject(None, HELD_OUT), small_subject(3, HELD_OUT)]

    @functools.cached_property
    def subjects(self) -> list[ModelContext]:
        """Models that it has something to say of: of points only where of no images."""
        metric = self.metric
        chosen = [s for s in self._images() if metric.skip(s, s.model) is None]
        if not chosen and self.context is None:
            chosen = [s for s in [points_subject()] if metric.skip(s, s.model) is None]
        return chosen

    @functools.cached_property
    def trials(self) -> list[_Trial]:
        """One for each model and each task that it reads of it."""
        trials = list[_Trial]()
        for context in self.subjects:
            examined = replace(context, reference=_reference(self.metric, context))
            tasks = _tasks(self.cls, context, self.tasks)
            trials += [_Trial(self.metric, examined, task) for task in tasks]
        name, read = self.cls.name, self.cls.tasks
        assert trials, f"{name}: says nothing of these data and models on any of {read}"
        return trials


@dataclass(frozen=True, eq=False)
class _Trial:
    """A metric on one task of one model."""

    metric: Metric
    context: ModelContext
    task: Task

    @property
    def label(self) -> str:
        """Metric and task."""
        return f"{self.metric.name} on {self.task.name}"

    @functools.cached_property
    def artifact(self) -> Artifact:
        """What the task draws."""
        return self.task.draw(self.context, 0, self.task.total(self.context))

    def measure(self) -> list[Row]:
        """The rows."""
        return self.metric.measure(self.context, self.task, self.artifact)

    @functools.cached_property
    def rows(self) -> list[Row]:
        """The rows, measured once."""
        torch.manual_seed(0)
        return self.measure()

    @functools.cached_property
    def protocol(self) -> MetricProtocol:
        """What the rows mean."""
        return self.metric.protocol(self.context, self.task)


def _each(function: Callable[[_Trial], object]) -> Callable[[MetricCase], None]:
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
    used = [bool(_reference(case.metric, context)) for context in case.subjects]
    return None if any(used) else "it needs no reference"


def _check_ids(case: MetricCase) -> None:
    ids = dict[str, MetricProtocol]()
    for trial in case.trials:
        known = ids.setdefault(trial.protocol.id, trial.protocol)
        same = known == trial.protocol
        assert same, f"{case.cls.name}: {known.id} means one thing here, another there"


def _check_purity(trial: _Trial) -> None:
    artifact = {name: values.clone() for name, values in trial.artifact.items()}
    trial.metric.measure(trial.context, trial.task, artifact)
    changed = [name for name in artifact if not _same(artifact[name], trial.artifact[name])]
    assert not changed, f"{trial.label}: measuring changes {changed[0]!r} of the artifact"


def _check_repeatable(trial: _Trial) -> None:
    rows = trial.rows
    torch.manual_seed(1)
    same = trial.measure() == rows
    assert same, f"{trial.label}: measured again, its rows are others: seed what is random"


def _check_counts(trial: _Trial) -> None:
    half, context = shortened(trial.task, MANY // 2), trial.context
    if half.total(context) < trial.task.total(context):
        artifact = half.draw(context, 0, half.total(context))
        fewer, n = trial.metric.measure(context, half, artifact)[0].n, trial.rows[0].n
        counted = fewer < n or trial.rows[0].value is None
        label = trial.label
        assert counted, f"{label}: n is {fewer} of fewer items, as of all: count what is read"


def points_subject() -> ModelContext:
    """A toy model of points with a known density, and the judge of their x coordinate."""
    data = toy_points()
    torch.manual_seed(SEED)
    model = toy_model(None, data).requires_grad_(False)
    judge = ToyPointsJudge.create()
    judge.fit(data, SEED, CPU)
    return toy_subject(data=data, model=model, judge=judge)


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


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool(torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)))


def _check_rows(trial: _Trial) -> None:
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


def _check_directions(trial: _Trial) -> None:
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


def _check_protocol(trial: _Trial) -> None:
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


METRIC_CHECKS: tuple[Check[MetricCase], ...] = (
    *PLUGIN_CHECKS,
    Check("tasks", "a tuple of names of tasks", _check_names, True),
    Check("reference", "what no model changes is the same from call to call", _check_reference),
    Check("purity", "measuring changes nothing of the artifact", _each(_check_purity)),
    Check("rows", "task, protocol, unit, count, direction, interval", _each(_check_rows)),
    Check("columns", "rows have the direction that their column declares", _check_columns),
    Check("repeatability", "the same rows twice, whatever the seed", _each(_check_repeatable)),
    Check("counts", "n is less of fewer items", _each(_check_counts)),
    Check("protocol", "JSON whose hash changes with the values", _each(_check_protocol)),
    Check("protocol-id", "one id means one protocol on every model", _check_ids),
)


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
    require(METRIC_CHECKS, MetricCase(cls, options, context, tasks))
