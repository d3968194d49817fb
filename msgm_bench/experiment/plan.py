"""From a ``RunSpec`` to plugins, options and data, all checked before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from msgm_bench.api import (
    Backbone,
    Data,
    Dataset,
    DataStats,
    Judge,
    Metric,
    Model,
    Plugin,
    Settings,
    Task,
)
from msgm_bench.cache.fingerprint import plugin_source
from msgm_bench.experiment.components import (
    applicable,
    create,
    info_for,
    limits_of,
    metrics_of,
    preset_of,
    scene_of,
    silent,
    task_presets,
    tasks_of,
)
from msgm_bench.experiment.judge import judge_of
from msgm_bench.experiment.loaded_data import Loaded, data_key, load, log_remarks, require_files
from msgm_bench.experiment.model_io import Limits
from msgm_bench.experiment.pretrained import BaseCheckpoint, given_base
from msgm_bench.experiment.spec import RunSpec, check_names
from msgm_bench.experiment.training_plan import TrainingPlan, base_of, skip_of, training_of
from msgm_bench.registry import registry
from msgm_bench.training import Runtime

JUDGE_SEED = 0  # one judge for every seed of a board


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
    trained: TrainingPlan | None
    base: TrainingPlan | None
    given: BaseCheckpoint | None
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


def plan(spec: RunSpec, download: bool = True) -> Plan:
    """Look up, merge, validate; without ``download`` all must be on this machine.

    Raises:
        UsageError: Anything about the request is wrong; nothing was trained.
        StorageError: Data or a base model are not on this machine.
    """
    runtime = Runtime.select(spec.device, spec.precision, spec.compile)
    registry().entry("backbones", spec.backbone)
    check_names(spec)
    if not download:
        require_files(spec)
    key = data_key(spec)
    loaded = load(*key)
    log_remarks(*key)
    return resolve(spec, runtime, loaded, loaded.data.targets(spec.forget), download)


def resolve(
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
    names = [loaded.data.classes[target] for target in targets if spec.forget]
    backbone, given = given_base(spec, chosen, loaded.info, download, names)
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


def skeleton(backbone: Backbone, info: DataStats) -> Model:
    """The model without memory for its weights: tells early whether it can be built."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = backbone.build(info)
    return network


def identity(plugin: Plugin) -> dict[str, Any]:
    """Name, options and code of a plugin: what its outcome depends on."""
    return {
        "name": plugin.name,
        "config": plugin.options.model_dump(mode="json"),
        "source": plugin_source(type(plugin)),
    }


def output_folder(out: str | Path) -> Path:
    """The folder for results, made and tried before anything is trained."""
    from msgm_bench.storage import storage_errors

    folder = Path(out).expanduser().absolute()
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".msgm-bench-probe"
        probe.touch()
        probe.unlink()
    return folder
