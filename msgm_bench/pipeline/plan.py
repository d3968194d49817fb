"""From a ``RunSpec`` to plugins, options and data, all checked before anything is trained."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import BaseModel, ValidationError

from msgm_bench.api import (
    PRESETS,
    Backbone,
    Data,
    DataInfo,
    Dataset,
    Judge,
    Method,
    Metric,
    Model,
    Plugin,
    Regime,
    Sampler,
    Settings,
    Task,
    Training,
    merge,
    option_error,
)
from msgm_bench.errors import IncompatibleError, UsageError
from msgm_bench.pipeline.fingerprint import data_fingerprint, plugin_source
from msgm_bench.pipeline.spec import RunSpec
from msgm_bench.registry import registry
from msgm_bench.training import Runtime

JUDGE_SEED = 0  # one judge for every seed of a board


@dataclass(frozen=True)
class Loaded:
    """A dataset in memory."""

    data: Data
    info: DataInfo
    fingerprint: str


@dataclass(frozen=True)
class Trained:
    """A method with the regime and the budget in which it trains."""

    method: Method
    regime: Regime
    budget: Training


@dataclass(frozen=True)
class Plan:
    """A cell with every name looked up and every option validated.

    Attributes:
        spec: The request.
        loaded: The dataset.
        targets: Class indices of D_f.
        backbone: The backbone.
        trained: The method, or None where a model from elsewhere is evaluated.
        base: How the base model is trained, for the finetune regime.
        settings: The merged preset.
        tasks: Tasks by name.
        metrics: Metrics that apply, in order.
        judge: Name and options of the judge.
        runtime: Device and precision.
        skip: Why the cell cannot be, or None.
    """

    spec: RunSpec
    loaded: Loaded
    targets: tuple[int, ...]
    backbone: Backbone
    trained: Trained | None
    base: Trained | None
    settings: Settings
    preset: str
    tasks: Mapping[str, Task]
    metrics: tuple[Metric, ...]
    judge: Judge
    runtime: Runtime
    skip: str | None

    @property
    def data(self) -> Data:
        """The dataset."""
        return self.loaded.data


def plan(spec: RunSpec) -> Plan:
    """Look up, merge, validate.

    Raises:
        UsageError: Anything about the request is wrong; nothing was trained.
    """
    runtime = Runtime.select(spec.device, spec.precision, spec.compile)
    dataset = registry().entry("datasets", spec.dataset).cls
    backbone_class = registry().entry("backbones", spec.backbone).cls
    preset = spec.preset or cast(type[Dataset], dataset).default_preset
    layers = [preset_of(dataset, preset), preset_of(backbone_class, preset)]
    chosen = None
    if spec.model is None:
        chosen = registry().entry("methods", spec.method).cls
        layers.append(preset_of(chosen, preset))
    settings = parse_settings(merge(*layers))
    backbone = cast(Backbone, create(backbone_class, settings.backbone, spec.backbone_params))
    trained = None
    if chosen is not None:
        method = cast(Method, create(chosen, settings.method, spec.params))
        trained = in_regime(method, spec, settings)
    tasks = tasks_of(spec, settings)
    loaded = load(spec.dataset, json.dumps(spec.dataset_params, sort_keys=True))
    model = skeleton(backbone, loaded.info)
    check_tasks(tasks, model)
    lost = trained.method.lost if trained else frozenset[str]()
    kept = {name: task for name, task in tasks.items() if name not in lost}
    return Plan(
        spec=spec,
        loaded=loaded,
        targets=loaded.data.targets(spec.forget),
        backbone=backbone,
        trained=trained,
        base=base_of(trained, spec, preset, layers[:2]),
        settings=settings,
        preset=preset,
        tasks=kept,
        metrics=metrics_of(kept),
        judge=judge_of(settings, spec),
        runtime=runtime,
        skip=trained.method.skip(model, trained.regime) if trained else None,
    )


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
        raise option_error("the preset", Settings, error) from error


def create(cls: type[Plugin], preset: Mapping[str, Any], options: Mapping[str, Any]) -> Plugin:
    """A plugin from the preset's defaults (as far as it has them) and the user's options."""
    defaults = {key: value for key, value in preset.items() if key in cls.Config.model_fields}
    return cls.create(merge(defaults, options))


def in_regime(method: Method, spec: RunSpec, settings: Settings) -> Trained:
    """The method in the regime that was asked for; baselines keep their own.

    Raises:
        IncompatibleError: The method does not know the regime.
    """
    regime = spec.regime or method.regimes[0]
    if regime not in method.regimes:
        if not method.baseline:
            raise IncompatibleError(
                f"method {method.name!r} in the regime {regime!r}", ", ".join(method.regimes)
            )
        regime = method.regimes[0]
    return Trained(method, regime, settings.budget(regime == "finetune", spec.steps))


def base_of(
    trained: Trained | None, spec: RunSpec, preset: str, layers: list[Mapping[str, Any]]
) -> Trained | None:
    """How the base model is trained, where the method starts from or looks at one.

    Raises:
        IncompatibleError: No installed method trains base models.
    """
    if trained is None or (trained.regime != "finetune" and "base" not in trained.method.needs):
        return None
    for entry in registry().entries("methods"):
        cls = cast(type[Method], entry.cls)
        if cls.trains_base:
            settings = parse_settings(merge(*layers, preset_of(cls, preset)))
            method = cast(Method, create(cls, settings.method, {}))
            return Trained(method, method.regimes[0], settings.budget(False, spec.steps))
    raise IncompatibleError("no installed method trains a base model", "a method with trains_base")


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
            capped = min(spec.samples, task.config.count)
            task = cast(Task, create(cls, {}, options | {"count": capped}))
        tasks[name] = task
    return tasks


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
                used.check(model)


def metrics_of(tasks: Mapping[str, Task]) -> tuple[Metric, ...]:
    """Every registered metric whose task is there."""
    entries = registry().entries("metrics")
    metrics = (cast(type[Metric], entry.cls) for entry in entries)
    return tuple(metric.create() for metric in metrics if metric.task in tasks)


def judge_of(settings: Settings, spec: RunSpec) -> Judge:
    """The judge that the preset names; ``steps`` replaces its budget too.

    Raises:
        UsageError: The preset names none.
    """
    options = dict(settings.judge)
    if "name" not in options:
        raise UsageError(
            f"no preset of dataset {spec.dataset!r} names a judge", "judge: {name: ...}"
        )
    cls = registry().entry("judges", options.pop("name")).cls
    if spec.steps is not None and "steps" in cls.Config.model_fields:
        options["steps"] = spec.steps
    return cast(Judge, cls.create(options))


@functools.lru_cache(maxsize=4)
def load(dataset: str, options: str) -> Loaded:
    """A dataset, once a process; ``options`` is JSON."""
    data = registry().create("datasets", dataset, json.loads(options)).load()
    return Loaded(data, DataInfo.of(data), data_fingerprint(data))


def skeleton(backbone: Backbone, info: DataInfo) -> Model:
    """The model without memory for its weights: tells early whether it can be built."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = backbone.build(info)
    return network


def identity(plugin: Plugin) -> dict[str, Any]:
    """Name, options and code of a plugin: what its outcome depends on."""
    config: BaseModel = plugin.config
    return {
        "name": plugin.name,
        "config": config.model_dump(mode="json"),
        "source": plugin_source(type(plugin)),
    }


def output_folder(out: str | Path) -> Path:
    """The folder for results, made and tried before anything is trained."""
    from msgm_bench.storage import explained

    folder = Path(out).expanduser().absolute()
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".msgm-bench-probe"
        probe.touch()
        probe.unlink()
    return folder
