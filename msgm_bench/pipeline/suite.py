"""The tasks and the metrics of a cell, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from msgm_bench.api import Metric, Model, Sampler, Settings, Task, merge
from msgm_bench.errors import PluginError
from msgm_bench.pipeline.presets import create
from msgm_bench.pipeline.spec import RunSpec
from msgm_bench.registry import registry


def task_presets(preset: str) -> list[Mapping[str, Any]]:
    """What the tasks themselves contribute to a preset; it need not be known to them."""
    return [entry.cls.presets.get(preset, {}) for entry in registry().entries("tasks")]


def tasks_of(spec: RunSpec, settings: Settings) -> dict[str, Task]:
    """Every registered task with the preset's options, the user's and ``samples``."""
    names = registry().names("tasks")
    tasks = {}
    for name in spec.task_params:
        registry().entry("tasks", name)
    for name in names:
        cls = registry().entry("tasks", name).cls
        options = merge(settings.tasks.get(name, {}), spec.task_params.get(name, {}))
        task = cast(Task, create(cls, {}, options))
        if spec.samples is not None:
            task = cast(Task, create(cls, {}, options | task.config.capped(spec.samples)))
        tasks[name] = task
    return tasks


def skipped(tasks: Mapping[str, Task], model: Model) -> dict[str, str]:
    """The tasks that make no sense for the model, and why."""
    reasons = {name: task.skip(model) for name, task in tasks.items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def check_tasks(tasks: Mapping[str, Task], model: Model) -> None:
    """Let tasks, and the samplers that they use, refuse the model.

    Raises:
        UsageError: One of them does, or what it uses is unknown.
    """
    for task in tasks.values():
        task.check(model)
        for kind, (name, options) in task.uses().items():
            used = registry().create(kind, name, options)
            if isinstance(used, Sampler):
                used.check(model, task.start)


def metrics_of(tasks: Mapping[str, Task], settings: Settings) -> tuple[Metric, ...]:
    """Every registered metric that has a task there, with the preset's options.

    Raises:
        PluginError: A metric names its tasks wrongly.
        UsageError: An option is wrong, or what it uses is unknown.
    """
    metrics = []
    for entry in registry().entries("metrics"):
        cls = cast(type[Metric], entry.cls)
        named = getattr(cls, "tasks", None)
        if not isinstance(named, tuple):
            raise PluginError(
                f"metric {cls.name!r} of {entry.provenance} has tasks = {named!r}",
                'a tuple of names, such as tasks = ("generation",)',
            )
        if set(named) & set(tasks):
            metric = cls.create(settings.metrics.get(cls.name, {}))
            for kind, chosen in metric.uses().items():
                registry().create(kind, *chosen)
            metrics.append(metric)
    return tuple(metrics)
