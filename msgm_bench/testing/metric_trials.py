"""What a metric is tried on: toy models, and small tasks."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch

from msgm_bench.api import Artifact, Metric, MetricProtocol, ModelContext, Row, Task
from msgm_bench.errors import UnknownNameError
from msgm_bench.registry import registry
from msgm_bench.testing.tasks import small, small_context
from msgm_bench.testing.toy_tracks import TOY_TRACKS
from msgm_bench.testing.toys import (
    CPU,
    SEED,
    ToyPointsJudge,
    toy_context,
    toy_model,
    toy_points,
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
        if self.contexts:
            return None
        reasons = (self.metric.skip(context, context.model) for context in self._images())
        known = "; ".join(dict.fromkeys(reason for reason in reasons if reason))
        return f"it says nothing of these data and models: {known}"

    def _images(self) -> list[ModelContext]:
        """Models of images of all tracks, unless another one is to be looked at."""
        if self.context is not None:
            return [self.context]
        return [small_context(track, HELD_OUT) for track in TOY_TRACKS]

    @functools.cached_property
    def contexts(self) -> list[ModelContext]:
        """Models that it has something to say of: of points only where of no images."""
        metric = self.metric
        chosen = [s for s in self._images() if metric.skip(s, s.model) is None]
        if not chosen and self.context is None:
            chosen = [s for s in [points_context()] if metric.skip(s, s.model) is None]
        return chosen

    @functools.cached_property
    def trials(self) -> list[MetricTrial]:
        """One for each model and each task that it reads of it."""
        trials = list[MetricTrial]()
        for context in self.contexts:
            examined = replace(context, reference=reference_of(self.metric, context))
            tasks = tasks_of(self.cls, context, self.tasks)
            trials += [MetricTrial(self.metric, self._compared(examined, t), t) for t in tasks]
        name, read = self.cls.name, self.cls.tasks
        assert trials, f"{name}: says nothing of these data and models on any of {read}"
        return trials

    def _compared(self, context: ModelContext, task: Task) -> ModelContext:
        """The context with what the task draws from its control and, where looked at, the base."""
        context = replace(context, control=control_of(context, task))
        if not self.cls.needs_base or context.base is None:
            return context
        base = replace(context, model=context.base)
        return replace(context, base_artifact=task.draw(base, 0, task.total(base)))


@dataclass(frozen=True, eq=False)
class MetricTrial:
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


def control_of(context: ModelContext, task: Task) -> Artifact:
    """What the task draws from another model, where it has a control."""
    if not task.has_control or context.base is None:
        return {}
    return task.draw(replace(context, model=context.base), 0, task.total(context))


def points_context() -> ModelContext:
    """A toy model of points with a known density, and the judge of their x coordinate."""
    data = toy_points()
    torch.manual_seed(SEED)
    model = toy_model(None, data).requires_grad_(False)
    judge = ToyPointsJudge.create()
    judge.fit(data, SEED, CPU)
    return toy_context(data=data, model=model, judge=judge)


def reference_of(metric: Metric, context: ModelContext) -> Artifact:
    """What the metric computes of data and judge alone; empty where it needs nothing."""
    if not metric.needs_reference(context):
        return {}
    first, second = metric.compute_reference(context), metric.compute_reference(context)
    same = first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
    assert same, f"{metric.name}: its reference changes from call to call"
    return first


def tasks_of(
    cls: type[Metric], context: ModelContext, tasks: Mapping[str, Task] | None
) -> list[Task]:
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
        if task.skip(context.model) is None:
            chosen.append(task.with_model_defaults(context.model))
    return chosen


def shortened(task: Task, samples: int) -> Task:
    """The task as ``--samples`` would make it."""
    options = task.options.model_dump(exclude_unset=True)
    sizes = dict.fromkeys(task.options.limit_samples(samples), samples)
    return type(task).create(options | sizes)
