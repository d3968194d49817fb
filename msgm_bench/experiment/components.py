"""The plugins of a run, made from presets and options, and what its backbone knows of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from msgm_bench.api import (
    PRESETS,
    Backbone,
    Data,
    DataStats,
    Plugin,
    Settings,
    merge,
    option_error,
)
from msgm_bench.errors import IncompatibleError, UsageError
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


def stats_for(spec: RunSpec, data: Data, stats: DataStats, backbone: type[Backbone]) -> DataStats:
    """What the backbone may know of the data: with ``spec.conditional`` the number of classes, too.

    Raises:
        IncompatibleError: The items have no single class each, or the backbone takes none.
    """
    if not spec.conditional:
        return stats
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
