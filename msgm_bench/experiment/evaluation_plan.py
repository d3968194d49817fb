"""How a model is evaluated: its tasks, the metrics on them, the judge, and what is skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from msgm_bench.api import (
    Embedder,
    EvalContext,
    Judge,
    Metric,
    Model,
    Sampler,
    Settings,
    Task,
    merge,
)
from msgm_bench.errors import PluginError, UsageError
from msgm_bench.evaluation.context import eval_context, model_context
from msgm_bench.experiment.components import create
from msgm_bench.experiment.judge import judge_of
from msgm_bench.experiment.loaded_data import LoadedData
from msgm_bench.experiment.model_card import Limits
from msgm_bench.experiment.skipped import Skipped
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.quarantine import errors_of
from msgm_bench.registry import kind_of, registry

NO_BASE = "it looks at the base model, which is not known of a stored model"


@dataclass(frozen=True)
class EvaluationPlan:
    """The evaluation of a model.

    Attributes:
        tasks: Tasks by name.
        metrics: Metrics that apply, in order.
        judge: The judge, not fitted yet.
        limits: What the model can do.
        skipped: Tasks and metrics that do not apply, and why.
    """

    tasks: Mapping[str, Task]
    metrics: tuple[Metric, ...]
    judge: Judge
    limits: Limits
    skipped: tuple[Skipped, ...] = ()

    @property
    def tasks_compared_with_base(self) -> tuple[str, ...]:
        """Names of the tasks whose artifacts a metric compares with those of the base model."""
        read = {name for metric in self.metrics if metric.needs_base for name in metric.tasks}
        return tuple(name for name in self.tasks if name in read)


def plan_evaluation(
    spec: RunSpec,
    settings: Settings,
    loaded: LoadedData,
    targets: tuple[int, ...],
    model: Model,
    limits: Limits,
    device: torch.device,
) -> EvaluationPlan:
    """Choose tasks, judge and metrics, and let each of them refuse model and data.

    Args:
        spec: The request.
        settings: The merged preset.
        loaded: The data.
        targets: Class indices of D_f.
        model: The model without its weights.
        limits: What the model can do.
        device: Where metrics are computed.

    Raises:
        UsageError: An option is wrong, or a task or the judge does not suit.
        PluginError: A metric names its tasks wrongly.
    """
    tasks = tasks_of(spec, settings, limits.required_task_options)
    has_base = spec.model is None or spec.base is not None
    skipped_tasks = skip_tasks(tasks, model, limits, has_base)
    names = {skip.name for skip in skipped_tasks}
    tasks = {n: task.with_model_defaults(model) for n, task in tasks.items() if n not in names}
    check_tasks(tasks, model)
    for task in tasks.values():
        task.check_data(loaded.data, targets)
    judge = judge_of(settings, spec, loaded.data)
    context = eval_context(loaded.data, targets, judge, device)
    empty_tasks = skip_empty_tasks(tasks, context, model)
    tasks = {n: task for n, task in tasks.items() if n not in {skip.name for skip in empty_tasks}}
    metrics = metrics_of(spec, tasks, settings)
    reasons = {}
    for metric in metrics:
        with errors_of(f"metric {metric.name!r}, skip"):
            reasons[metric.name] = metric.skip(context, model)
        if metric.needs_base and not has_base:
            reasons[metric.name] = reasons[metric.name] or NO_BASE
    return EvaluationPlan(
        tasks,
        tuple(metric for metric in metrics if reasons[metric.name] is None),
        judge,
        limits,
        (*skipped_tasks, *empty_tasks, *_skipped("metrics", reasons)),
    )


def tasks_of(
    spec: RunSpec, settings: Settings, required: Mapping[str, Mapping[str, Any]]
) -> dict[str, Task]:
    """The tasks of every run and those on request that ``spec`` names.

    They have the preset's options, the user's and ``samples``; ``required`` holds options that
    the model needs, by task, which lie above them all.

    Raises:
        UsageError: An option is wrong, a task is unknown, or its options are stated and it is not
            requested.
    """
    for name in (*spec.tasks, *spec.task_params):
        registry().entry("tasks", name)
    tasks = {}
    for name in registry().names("tasks"):
        cls = cast(type[Task], registry().entry("tasks", name).cls)
        if cls.on_request and name not in spec.tasks:
            if name in spec.task_params:
                raise UsageError(
                    f"options of the task {name!r}, which runs on request only",
                    f"--task {name} beside them",
                )
            continue
        layers = (spec.task_params.get(name, {}), required.get(name, {}))
        options: Mapping[str, Any] = settings.tasks.get(name, {})
        for layer in layers:
            options = override(options, layer, "sampler")
        task = cast(Task, create(cls, {}, options))
        if spec.samples is not None:
            options = {**options, **task.options.limit_samples(spec.samples)}
            task = cast(Task, create(cls, {}, options))
        tasks[name] = task
    return tasks


def override(preset: Mapping[str, Any], options: Mapping[str, Any], choice: str) -> dict[str, Any]:
    """``options`` over the preset's, whose ``CHOICE_options`` belong to the preset's own choice."""
    if options.get(choice, preset.get(choice)) != preset.get(choice):
        preset = {key: value for key, value in preset.items() if key != f"{choice}_options"}
    return merge(preset, options)


def skip_tasks(
    tasks: Mapping[str, Task], model: Model, limits: Limits, has_base: bool
) -> tuple[Skipped, ...]:
    """The tasks that make no sense for the model, that it can no longer do, or that lack a base."""
    reasons = {}
    for name, task in tasks.items():
        with errors_of(f"task {name!r}, skip"):
            reasons[name] = task.skip(model)
        if task.needs_base and not has_base:
            reasons[name] = reasons[name] or NO_BASE
    reasons |= {name: why for name, why in limits.unsupported_tasks.items() if name in tasks}
    return _skipped("tasks", reasons)


def skip_empty_tasks(
    tasks: Mapping[str, Task], context: EvalContext, model: Model
) -> tuple[Skipped, ...]:
    """The tasks on held-out items, where the data have no items."""
    if len(context.data.test):
        return ()
    seen = model_context(context, model, 0)
    reason = "the data have no held-out items"
    return _skipped("tasks", {n: None if task.total(seen) else reason for n, task in tasks.items()})


def check_tasks(tasks: Mapping[str, Task], model: Model) -> None:
    """Let tasks, and the samplers that they use, refuse the model.

    Raises:
        UsageError: One of them does, or what it uses is unknown.
    """
    for task in tasks.values():
        task.check(model)
        for role, (name, options) in task.uses().items():
            plugin = registry().create(kind_of(role), name, options)
            if isinstance(plugin, Sampler):
                plugin.check(model, task.start)


def metrics_of(spec: RunSpec, tasks: Mapping[str, Task], settings: Settings) -> tuple[Metric, ...]:
    """Every registered metric of one of the tasks, with the preset's options and the user's.

    Raises:
        PluginError: A metric names its tasks wrongly.
        UsageError: An option is wrong, or what it uses is unknown.
    """
    for name, options in spec.metric_params.items():
        registry().create("metrics", name, options)
    metrics = []
    for entry in registry().entries("metrics"):
        cls = cast(type[Metric], entry.cls)
        names = getattr(cls, "tasks", None)
        if not isinstance(names, tuple):
            raise PluginError(
                f"metric {cls.name!r} of {entry.provenance} has tasks = {names!r}",
                'a tuple of names, such as tasks = ("TASK",)',
            )
        if set(names) & set(tasks):
            layers = (settings.metrics, spec.metric_params)
            metric = cls.create(merge(*(layer.get(cls.name, {}) for layer in layers)))
            for role, choice in metric.uses().items():
                registry().create(kind_of(role), *choice)
            metrics.append(metric)
    return tuple(metrics)


def null_metrics(metrics: Sequence[Metric], judge: Judge) -> tuple[Skipped, ...]:
    """The metrics whose values will be null, because their embedder cannot embed here."""
    reasons = {}
    for metric in metrics:
        for role, choice in metric.uses().items():
            plugin = registry().create(kind_of(role), *choice)
            reason = plugin.missing_weights(judge) if isinstance(plugin, Embedder) else None
            if reason is not None:
                reasons[metric.name] = reason
    return _skipped("metrics", reasons)


def _skipped(kind: str, reasons: Mapping[str, str | None]) -> tuple[Skipped, ...]:
    return tuple(
        Skipped(kind, name, reason) for name, reason in reasons.items() if reason is not None
    )
