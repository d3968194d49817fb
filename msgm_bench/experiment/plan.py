"""From a request to a plan: plugins, options and data, all checked before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from msgm_bench.api import Backbone, Data, Dataset, Method, Model, Settings, Task, merge
from msgm_bench.experiment.components import (
    create,
    parse_settings,
    preset_of,
    stats_for,
    task_presets,
)
from msgm_bench.experiment.evaluation_plan import EvaluationPlan, plan_evaluation
from msgm_bench.experiment.loaded_data import LoadedData, data_key, load, log_remarks, require_files
from msgm_bench.experiment.model_card import Limits, is_foreign, read_card
from msgm_bench.experiment.model_io import check_model, skeleton
from msgm_bench.experiment.pretrained import BaseCheckpoint, resolve_base
from msgm_bench.experiment.recorded_task import recorded_task
from msgm_bench.experiment.reference_plan import ReferencePlan, plan_references
from msgm_bench.experiment.skipped import Skipped
from msgm_bench.experiment.spec import RunSpec, check_names
from msgm_bench.experiment.training_plan import (
    TrainingPlan,
    check_drawing,
    check_forget_set,
    plan_training,
    skip_training,
    with_part,
)
from msgm_bench.registry import registry
from msgm_bench.training import Runtime


@dataclass(frozen=True)
class Plan:
    """A run with every name looked up and every option validated.

    Attributes:
        spec: The request.
        preset: Name of the preset.
        settings: The merged preset.
        runtime: Device and precision.
        loaded: The data.
        targets: Class indices of D_f.
        backbone: The backbone.
        base: The base checkpoint of the request, or None.
        training: How the method trains; None where a trained model is evaluated as it is.
        evaluation: How the model is evaluated.
        skipped: The method with the reason why it cannot run, or None.
        encodes_once: Whether the codec is so costly that training items are encoded once.
        references: What is trained beside the method because tasks look at it.
        change: SHA-256 of the file that changes the base and is evaluated; None for other runs.
        recorded_task: Draws samples along the training; None where nothing is recorded.
    """

    spec: RunSpec
    preset: str
    settings: Settings
    runtime: Runtime
    loaded: LoadedData
    targets: tuple[int, ...]
    backbone: Backbone
    base: BaseCheckpoint | None
    training: TrainingPlan | None
    evaluation: EvaluationPlan
    skipped: Skipped | None = None
    encodes_once: bool = False
    change: str | None = None
    references: ReferencePlan = field(default_factory=ReferencePlan)
    recorded_task: Task | None = None

    @property
    def trainings(self) -> tuple[TrainingPlan, ...]:
        """All that is trained: the base model, the control and the method."""
        own, references = self.training, self.references
        plans = (references.base, None if own is None else own.base, references.control, own)
        return tuple(plan for plan in plans if plan is not None)

    @property
    def data(self) -> Data:
        """The dataset."""
        return self.loaded.data


def resolve(spec: RunSpec, download: bool = True) -> Plan:
    """Read the data, look up, merge, validate; without ``download`` all must be on this machine.

    Raises:
        UsageError: Anything about the request is wrong; nothing was trained.
        StorageError: Data or a base model are not on this machine.
    """
    runtime = Runtime.select(spec.device, spec.precision, spec.compile, spec.threads)
    registry().entry("backbones", spec.backbone)
    check_names(spec)
    if not download:
        require_files(spec)
    key = data_key(spec)
    loaded = load(*key)
    log_remarks(*key)
    return resolve_on_data(spec, runtime, loaded, loaded.data.targets(spec.forget), download)


def resolve_on_data(
    spec: RunSpec,
    runtime: Runtime,
    loaded: LoadedData,
    targets: tuple[int, ...],
    download: bool = True,
) -> Plan:
    """The plan of ``spec`` on this data; without ``download`` all must be on this machine.

    Raises:
        UsageError: Anything about the request is wrong; nothing was trained.
    """
    dataset = cast(type[Dataset], registry().entry("datasets", spec.dataset).cls)
    backbone_type = cast(type[Backbone], registry().entry("backbones", spec.backbone).cls)
    loaded = replace(loaded, stats=stats_for(spec, loaded.data, loaded.stats, backbone_type))
    preset = spec.preset or dataset.default_preset
    layers = [*task_presets(preset), preset_of(dataset, preset), preset_of(backbone_type, preset)]
    settings, training = _settings_and_training(spec, loaded, preset, layers)
    options = create(backbone_type, settings.backbone, spec.backbone_params)
    names = [loaded.data.classes[target] for target in targets if spec.forget]
    backbone, base = resolve_base(spec, cast(Backbone, options), loaded.stats, download, names)
    model = skeleton(backbone, loaded.stats)
    check_drawing(spec, loaded.data, model)
    change = _change(spec, backbone, model)
    skipped = skip_training(training, spec, loaded.data, model)
    if training and skipped is None:
        training = with_part(training, backbone, model)
    if training and spec.forget and skipped is None:
        check_forget_set(training.method, model, loaded.data, targets)
    limits = _limits(spec, training, model)
    evaluation = plan_evaluation(spec, settings, loaded, targets, model, limits, runtime.device)
    return Plan(
        spec=spec,
        preset=preset,
        settings=settings,
        runtime=runtime,
        loaded=loaded,
        targets=targets,
        backbone=backbone,
        base=base,
        training=training,
        evaluation=evaluation,
        skipped=skipped,
        encodes_once=model.codec.encodes_once,
        references=plan_references(spec, evaluation, loaded.data, model, training, preset, layers),
        change=change,
        recorded_task=(
            recorded_task(evaluation, loaded.stats.shape)
            if spec.record_samples and training is not None
            else None
        ),
    )


def _settings_and_training(
    spec: RunSpec, loaded: LoadedData, preset: str, layers: list[Mapping[str, Any]]
) -> tuple[Settings, TrainingPlan | None]:
    """The merged preset and how the method trains; None where a trained model stands for it."""
    if spec.model is not None:
        if not is_foreign(Path(spec.model)):
            check_model(Path(spec.model), loaded.stats, spec.base)
        return parse_settings(merge(*layers)), None
    cls = registry().entry("methods", spec.method).cls
    settings = parse_settings(merge(*layers, preset_of(cls, preset, spec.text)))
    method = cast(Method, create(cls, settings.method, spec.params))
    return settings, plan_training(method, spec, settings, preset, layers)


def _limits(spec: RunSpec, training: TrainingPlan | None, model: Model) -> Limits:
    """What the model can do: by its method, or by the card of a model from another run."""
    if training is not None:
        return Limits.of(training.method, model)
    if spec.model is None or is_foreign(Path(spec.model)):
        return Limits()
    return Limits.of_card(read_card(Path(spec.model)))


def _change(spec: RunSpec, backbone: Backbone, model: Model) -> str | None:
    """SHA-256 of the file that changes the base, compared with the base's network; or None."""
    if spec.base is None or spec.model is None or not is_foreign(Path(spec.model)):
        return None
    return backbone.read_change(Path(spec.model), model).sha256
