"""From a ``RunSpec`` to plugins, options and data, all checked before anything is trained."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import BaseModel

from msgm_bench.api import (
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
    Settings,
    Task,
    Training,
    merge,
)
from msgm_bench.errors import IncompatibleError
from msgm_bench.pipeline.fingerprint import data_fingerprint, plugin_source
from msgm_bench.pipeline.given import Given, given_base, regimes_of, unused
from msgm_bench.pipeline.judging import judge_of
from msgm_bench.pipeline.limits import Limits
from msgm_bench.pipeline.modelfile import check_model
from msgm_bench.pipeline.presets import create, parse_settings, preset_of
from msgm_bench.pipeline.spec import RunSpec, check_names
from msgm_bench.pipeline.suite import (
    applicable,
    limits_of,
    metrics_of,
    scene_of,
    silent,
    task_presets,
    tasks_of,
)
from msgm_bench.pipeline.tracks import info_for
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

    @property
    def starts_from_base(self) -> bool:
        """Whether it needs a base model: for its weights, or to look at."""
        return self.regime == "finetune" or "base" in self.method.needs

    @property
    def continues(self) -> bool:
        """Whether it goes on with the optimiser of the base model's training."""
        return self.regime == "finetune" and self.budget.continue_optimizer


@dataclass(frozen=True)
class Plan:
    """A cell with every name looked up and every option validated.

    Attributes:
        spec: The request.
        loaded: The dataset.
        targets: Class indices of D_f.
        backbone: The backbone.
        trained: The method, or None where a model from elsewhere is evaluated.
        base: How the base model is trained, where the method starts from one that is not given.
        given: The base model from elsewhere.
        settings: The merged preset.
        tasks: Tasks by name.
        left_out: Tasks that do not apply, and why.
        metrics: Metrics that apply, in order.
        unmeasured: Metrics of the tasks that have nothing to say here, and why.
        judge: The judge, not fitted yet.
        limits: What the model can be asked.
        runtime: Device and precision.
        skip: Why the cell cannot be, or None.
    """

    spec: RunSpec
    loaded: Loaded
    targets: tuple[int, ...]
    backbone: Backbone
    trained: Trained | None
    base: Trained | None
    given: Given | None
    settings: Settings
    preset: str
    tasks: Mapping[str, Task]
    left_out: Mapping[str, str]
    metrics: tuple[Metric, ...]
    unmeasured: Mapping[str, str]
    judge: Judge
    limits: Limits
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
    registry().entry("backbones", spec.backbone)
    check_names(spec)
    loaded = load(spec.dataset, json.dumps(spec.dataset_params, sort_keys=True))
    return arranged(spec, runtime, loaded, loaded.data.targets(spec.forget))


def arranged(
    spec: RunSpec,
    runtime: Runtime,
    loaded: Loaded,
    targets: tuple[int, ...],
    download: bool = True,
) -> Plan:
    """The plan of ``spec`` on this data; without ``download`` all must be on this machine.

    Raises:
        UsageError: Anything about the request is wrong; nothing was trained.
    """
    dataset = registry().entry("datasets", spec.dataset).cls
    backbone_class = registry().entry("backbones", spec.backbone).cls
    told = info_for(spec, loaded.data, loaded.info, cast(type[Backbone], backbone_class))
    loaded = replace(loaded, info=told)
    preset = spec.preset or cast(type[Dataset], dataset).default_preset
    shared = [*task_presets(preset), preset_of(dataset, preset), preset_of(backbone_class, preset)]
    settings, trained = training_of(spec, loaded.info, preset, shared)
    chosen = cast(Backbone, create(backbone_class, settings.backbone, spec.backbone_params))
    backbone, given = given_base(spec, chosen, loaded.info, download)
    model = skeleton(backbone, loaded.info)
    limits = limits_of(spec, trained.method if trained else None)
    kept, left_out = applicable(tasks_of(spec, settings, limits.demands), model, limits)
    skip = skip_of(trained, spec, model)
    if trained and spec.forget and skip is None:
        trained.method.check_data(loaded.data, targets)
    for task in kept.values():
        task.check_data(loaded.data, targets)
    judge, metrics = judge_of(settings, spec, loaded.data), metrics_of(spec, kept, settings)
    unmeasured = silent(metrics, scene_of(loaded.data, targets, judge, runtime.device), model)
    return Plan(
        spec=spec,
        loaded=loaded,
        targets=targets,
        backbone=backbone,
        trained=trained,
        base=None if given else base_of(trained, spec, preset, shared),
        given=given,
        settings=settings,
        preset=preset,
        tasks=kept,
        left_out=left_out,
        metrics=tuple(metric for metric in metrics if metric.name not in unmeasured),
        unmeasured=unmeasured,
        judge=judge,
        limits=limits,
        runtime=runtime,
        skip=skip,
    )


def training_of(
    spec: RunSpec, info: DataInfo, preset: str, shared: list[Mapping[str, Any]]
) -> tuple[Settings, Trained | None]:
    """The merged preset and how the method trains; None where a model from elsewhere stands.

    A given base stands for the method that would train the base.

    Raises:
        UsageError: The method, its options, its budget or the model do not fit.
    """
    if spec.model is not None:
        check_model(Path(spec.model), info)
        return parse_settings(merge(*shared)), None
    chosen = registry().entry("methods", spec.method).cls
    settings = parse_settings(merge(*shared, preset_of(chosen, preset)))
    method = cast(Method, create(chosen, settings.method, spec.params))
    if spec.base is not None and method.trains_base:
        return settings, None
    return settings, in_regime(method, spec, settings)


def skip_of(trained: Trained | None, spec: RunSpec, model: Model) -> str | None:
    """Why the method cannot run, or None."""
    if trained is None:
        return None
    if trained.continues and spec.base is not None:
        return (
            f"{trained.method.name} goes on with the base's optimiser, which --base does not bring"
        )
    return unused(trained.method, spec) or trained.method.skip(model, trained.regime)


def in_regime(method: Method, spec: RunSpec, settings: Settings) -> Trained:
    """The method in the regime that was asked for; baselines keep their own.

    Raises:
        IncompatibleError: The method does not know the regime.
    """
    allowed = regimes_of(method, spec)
    regime = spec.regime or allowed[0]
    if regime not in allowed:
        if not method.baseline:
            where = "" if spec.base is None else " from a given base"
            raise IncompatibleError(
                f"method {method.name!r} in the regime {regime!r}{where}", ", ".join(allowed)
            )
        regime = allowed[0]
    passes = None if method.baseline else spec.passes
    return Trained(method, regime, settings.budget(regime == "finetune", spec.steps, passes))


def base_of(
    trained: Trained | None, spec: RunSpec, preset: str, layers: list[Mapping[str, Any]]
) -> Trained | None:
    """How the base model is trained, where the method starts from or looks at one.

    Raises:
        IncompatibleError: No installed method trains base models.
    """
    if trained is None or not trained.starts_from_base:
        return None
    for entry in registry().entries("methods"):
        cls = cast(type[Method], entry.cls)
        if cls.trains_base:
            settings = parse_settings(merge(*layers, preset_of(cls, preset)))
            method = cast(Method, create(cls, settings.method, {}))
            return Trained(method, method.regimes[0], settings.budget(False, spec.steps))
    raise IncompatibleError("no installed method trains a base model", "a method with trains_base")


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
