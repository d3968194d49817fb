"""Presets of plugins, merged into settings, and plugins made from settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from msgm_bench.api import PRESETS, Plugin, Settings, merge, option_error
from msgm_bench.errors import UsageError


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
