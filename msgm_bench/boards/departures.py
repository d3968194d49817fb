"""What of a run is not its plugins' presets and defaults."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, cast

from msgm_bench.api import Backbone, Plugin, Settings, merge
from msgm_bench.api.result import SpecRecord, digest
from msgm_bench.boards.protocols import flatten
from msgm_bench.errors import MsgmBenchError, UsageError
from msgm_bench.experiment.components import create, parse_settings, preset_of, task_presets
from msgm_bench.registry import registry


def departures(spec: SpecRecord) -> dict[str, Any]:
    """Options and settings that differ from the preset, by dotted name.

    Of a plugin that is not installed, whose preset nobody knows, all of them. A setting that the
    preset leaves open (None) belongs to the model and is no departure. Under a budget of passes
    ``training.steps`` decides nothing and is left out; ``base.training.steps`` is the ``--steps``
    of the base model of fine-tuning.
    """
    run = {
        "dataset": spec.dataset_params,
        "backbone": spec.backbone_params,
        "method": spec.params,
        "training": _deciding(spec.settings.get("training", {})),
        "tasks": spec.settings.get("tasks", {}),
        "judge": spec.settings.get("judge", {}),
    }
    names = (spec.dataset, spec.backbone, spec.method, run["judge"].get("name", ""))
    own = preset_options(*names, spec.preset, spec.regime)
    differing = {}
    for part, options in run.items():
        reference = own.get(part)
        known = (
            options if reference is None else {k: v for k, v in options.items() if k in reference}
        )
        flat = flatten(reference or {})
        for key, value in flatten(known).items():
            if reference is None or not _same(value, flat.get(key, _ABSENT)):
                differing[f"{part}.{key}"] = value
    return differing | _steps_of_base(spec)


def _deciding(training: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings without ``steps`` where a number of passes ends the training."""
    if training.get("passes") is None:
        return training
    return {key: value for key, value in training.items() if key != "steps"}


def _steps_of_base(spec: SpecRecord) -> dict[str, Any]:
    """``--steps`` of a fine-tuning run that trains its base model."""
    steps = spec.settings.get("steps")
    is_trained = spec.regime == "finetune" and spec.base is None
    return {"base.training.steps": steps} if is_trained and steps else {}


_ABSENT = object()


def _same(value: Any, reference: Any) -> bool:
    return reference is None or (reference is not _ABSENT and digest(value) == digest(reference))


@functools.lru_cache(maxsize=256)
def preset_options(
    dataset: str, backbone: str, method: str, judge: str, preset: str, regime: str
) -> Mapping[str, Mapping[str, Any]]:
    """Options of the parts of a run by its plugins' presets; no part of what is not installed."""
    try:
        settings = preset_settings(dataset, backbone, method, preset)
        backbone_class, method_class = _class("backbones", backbone), _class("methods", method)
        own: dict[str, Mapping[str, Any]] = {
            "training": settings.budget(regime == "finetune").model_dump(mode="json"),
            "backbone": _options(backbone_class, settings.backbone),
            "method": _options(method_class, settings.method),
            "dataset": _options(_class("datasets", dataset), {}),
        }
        own["tasks"] = {
            name: _options(_class("tasks", name), settings.tasks.get(name, {}))
            for name in registry().names("tasks")
        }
        if judge:
            own["judge"] = {"name": judge, **_options(_class("judges", judge), settings.judge)}
    except MsgmBenchError:
        return {}
    return own


def preset_settings(dataset: str, backbone: str, method: str, preset: str) -> Settings:
    """The presets of tasks, dataset, backbone and method, merged.

    Raises:
        UsageError: One of them is not installed.
    """
    names = {"datasets": dataset, "backbones": backbone, "methods": method}
    classes = [_class(kind, name) for kind, name in names.items()]
    text = cast(type[Backbone], classes[1]).text
    return parse_settings(
        merge(*task_presets(preset), *(preset_of(cls, preset, text) for cls in classes))
    )


@functools.lru_cache(maxsize=256)
def preset_training(
    dataset: str, backbone: str, method: str, preset: str, regime: str
) -> Mapping[str, Any] | None:
    """The training of the method's own preset; None where a plugin is not installed."""
    try:
        settings = preset_settings(dataset, backbone, method, preset)
        return settings.budget(regime == "finetune").model_dump(mode="json")
    except UsageError:
        return None


def _class(kind: str, name: str) -> type[Plugin]:
    return registry().entry(kind, name).cls


def _options(cls: type[Plugin], preset: Mapping[str, Any]) -> Mapping[str, Any]:
    options: Mapping[str, Any] = cast(Any, create(cls, preset, {})).options.model_dump(mode="json")
    return options
