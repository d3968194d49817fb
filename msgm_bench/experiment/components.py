"""The plugins of a run, made from presets and options, and what its backbone knows of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from pydantic import ValidationError

from msgm_bench.api import (
    PRESETS,
    Backbone,
    Data,
    DataStats,
    Plugin,
    Settings,
    merge,
    on_track,
    option_error,
)
from msgm_bench.errors import IncompatibleError, UsageError
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.registry import registry


def preset_of(cls: type[Plugin], preset: str, text: bool = False) -> Mapping[str, Any]:
    """A plugin's contribution to a preset; ``text``: of text-to-image models.

    Raises:
        UsageError: A third-party preset name that this plugin lacks.
    """
    if preset not in PRESETS and preset not in cls.presets:
        raise UsageError(f"{cls.name} has no preset {preset!r}", ", ".join(PRESETS))
    return on_track(cls.presets.get(preset, {}), text)


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


def stats_for(spec: RunSpec, data: Data, stats: DataStats, backbone: type[Backbone]) -> DataStats:
    """What the backbone may know of the data: classes or prompts in the tracks of those.

    Raises:
        IncompatibleError: The data have no single class an item or no prompts, or the backbone
            takes another condition.
    """
    if spec.track == "text":
        return _with_prompts(spec, data, stats, backbone)
    if backbone.text:
        raise IncompatibleError(
            f"the backbone {spec.backbone!r} without --text",
            "prompts: its networks take nothing else",
            "add --text, or choose another backbone",
        )
    return _with_classes(spec, data, stats, backbone) if spec.track == "class" else stats


def _with_prompts(
    spec: RunSpec, data: Data, stats: DataStats, backbone: type[Backbone]
) -> DataStats:
    if data.prompts is None:
        raise IncompatibleError(
            f"text-to-image models of {spec.dataset!r}, which has no prompts",
            "datasets with prompts",
            "leave out --text",
        )
    if not backbone.text:
        backbones = (cast(type[Backbone], e.cls) for e in registry().entries("backbones"))
        names = [cls.name for cls in backbones if cls.text]
        raise IncompatibleError(
            f"text-to-image models of the backbone {spec.backbone!r}",
            f"backbones whose networks take a prompt: {', '.join(names) or 'none is installed'}",
            "leave out --text" + (f", or choose --backbone {names[0]}" if names else ""),
        )
    return replace(stats, prompts=data.prompts.texts, words=data.prompts.words)


def _with_classes(
    spec: RunSpec, data: Data, stats: DataStats, backbone: type[Backbone]
) -> DataStats:
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
    return replace(stats, classes=len(data.classes))


def task_presets(preset: str) -> list[Mapping[str, Any]]:
    """What the tasks themselves contribute to a preset; it need not be known to them."""
    return [entry.cls.presets.get(preset, {}) for entry in registry().entries("tasks")]
