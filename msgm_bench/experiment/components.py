"""The plugins of a run: presets, tracks, tasks and metrics, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import ValidationError

from msgm_bench.api import (
    PRESETS,
    Backbone,
    Data,
    DataStats,
    Embedder,
    EvalContext,
    Judge,
    Method,
    Metric,
    Model,
    Plugin,
    Sampler,
    Settings,
    Task,
    merge,
    option_error,
)
from msgm_bench.errors import IncompatibleError, PluginError, UsageError
from msgm_bench.experiment.model_io import Limits, read_card
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.registry import registry


def preset_of(cls: type[Plugin], preset: str) -> Mapping[str, Any]:
    """A plugin's contribution to a preset.

    Raises:
        UsageError: A third-party preset name that this plugin lacks.
    """
    if preset not in PRESETS and preset not in cls.presets:
        raise UsageError(f"{cls.name} has no preset {preset!r}", ", ".join(PRESETS))
    return cls.presets.get(preset, {})


def parse_settings(merged: Mapping[str, Any]) -> Settings:
    """The merged preset, validated."""
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise option_error("the preset", Settings, merged, error) from error


def create(cls: type[Plugin], preset: Mapping[str, Any], options: Mapping[str, Any]) -> Plugin:
    """A plugin from the preset's defaults (as far as it has them) and the user's options."""
    defaults = {key: value for key, value in preset.items() if key in cls.options_type.model_fields}
    return cls.create(merge(defaults, options))


def info_for(spec: RunSpec, data: Data, info: DataStats, backbone: type[Backbone]) -> DataStats:
    """What the backbone is told: with ``spec.conditional`` the number of classes, too.

    Raises:
        IncompatibleError: The items have no single class each, or the backbone takes none.
    """
    if not spec.conditional:
        return info
    if data.train.y.ndim != 1:
        raise IncompatibleError(
            f"class-conditional models of {spec.dataset!r}, whose labels are attributes",
            "datasets whose items have one class each",
            "leave out --conditional",
        )
    if not backbone.conditional:
        raise IncompatibleError(
            f"class-conditional models of the backbone {spec.backbone!r}",
            "backbones whose networks take a class",
            "leave out --conditional",
        )
    return replace(info, classes=len(data.classes))


def task_presets(preset: str) -> list[Mapping[str, Any]]:
    """What the tasks themselves contribute to a preset; it need not be known to them."""
    return [entry.cls.presets.get(preset, {}) for entry in registry().entries("tasks")]


def tasks_of(
    spec: RunSpec, settings: Settings, demands: Mapping[str, Mapping[str, Any]]
) -> dict[str, Task]:
    """Every registered task with the preset's options, the user's and ``samples``.

    ``demands`` of the model, by task, lie above them all.
    """
    names = registry().names("tasks")
    tasks = {}
    for name in spec.task_params:
        registry().entry("tasks", name)
    for name in names:
        cls = registry().entry("tasks", name).cls
        options = over(settings.tasks.get(name, {}), spec.task_params.get(name, {}), "sampler")
        options = over(options, demands.get(name, {}), "sampler")
        task = cast(Task, create(cls, {}, options))
        if spec.samples is not None:
            task = cast(Task, create(cls, {}, options | task.options.limit_samples(spec.samples)))
        tasks[name] = task
    return tasks


def over(preset: Mapping[str, Any], given: Mapping[str, Any], choice: str) -> dict[str, Any]:
    """The user's options over the preset's, whose ``CHOICE_options`` belong to its own choice."""
    if given.get(choice, preset.get(choice)) != preset.get(choice):
        preset = {key: value for key, value in preset.items() if key != f"{choice}_options"}
    return merge(preset, given)


def limits_of(spec: RunSpec, method: Method | None) -> Limits:
    """What the model can be asked: its method says so, or its card where it is from elsewhere."""
    if method is not None:
        return Limits.of(method)
    return Limits() if spec.model is None else Limits.told(read_card(Path(spec.model)))


def applicable(
    tasks: Mapping[str, Task], model: Model, limits: Limits
) -> tuple[dict[str, Task], dict[str, str]]:
    """The tasks that remain, checked; and why the others do not.

    Raises:
        UsageError: A task that remains refuses the model.
    """
    lost = {name: reason for name, reason in limits.lost.items() if name in tasks}
    left_out = skipped(tasks, model) | lost
    kept = {
        name: task.with_model_defaults(model)
        for name, task in tasks.items()
        if name not in left_out
    }
    check_tasks(kept, model)
    return kept, left_out


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


def scene_of(
    data: Data, targets: tuple[int, ...], judge: Judge, device: torch.device
) -> EvalContext:
    """What there is to look at beside the model, with the judge as it is."""
    return EvalContext(
        data=data,
        targets=targets,
        judge=judge,
        judge_id=judge.protocol(),
        device=device,
        create=registry().create,
    )


def metrics_of(spec: RunSpec, tasks: Mapping[str, Task], settings: Settings) -> tuple[Metric, ...]:
    """Every registered metric that has a task there, with the preset's options and the user's.

    Raises:
        PluginError: A metric names its tasks wrongly.
        UsageError: An option is wrong, or what it uses is unknown.
    """
    metrics = []
    for name, given in spec.metric_params.items():
        registry().create("metrics", name, given)
    for entry in registry().entries("metrics"):
        cls = cast(type[Metric], entry.cls)
        named = getattr(cls, "tasks", None)
        if not isinstance(named, tuple):
            raise PluginError(
                f"metric {cls.name!r} of {entry.provenance} has tasks = {named!r}",
                'a tuple of names, such as tasks = ("TASK",)',
            )
        if set(named) & set(tasks):
            preset, given = (c.get(cls.name, {}) for c in (settings.metrics, spec.metric_params))
            metric = cls.create(merge(preset, given))
            for kind, chosen in metric.uses().items():
                registry().create(kind, *chosen)
            metrics.append(metric)
    return tuple(metrics)


def silent(metrics: Sequence[Metric], scene: EvalContext, model: Model) -> dict[str, str]:
    """The metrics that have nothing to say of such models, and why."""
    reasons = {metric.name: metric.skip(scene, model) for metric in metrics}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def blind(metrics: Sequence[Metric], judge: Judge) -> dict[str, str]:
    """The metrics whose embedder cannot embed here, and why: their values will be missing."""
    reasons = {}
    for metric in metrics:
        for kind, chosen in metric.uses().items():
            used = registry().create(kind, *chosen)
            reason = used.missing(judge) if isinstance(used, Embedder) else None
            if reason is not None:
                reasons[metric.name] = reason
    return reasons
