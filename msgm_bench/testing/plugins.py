"""What every class of every kind keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

from msgm_bench.api import Backbone, Judge, Method, Metric, Plugin, Settings, Task
from msgm_bench.errors import MsgmBenchError, OptionError, PluginError
from msgm_bench.testing.checks import Case, Check

SUMMARY = 100  # letters that `msgm-bench list` has room for


def check_plugin(cls: type[Plugin]) -> None:
    """Name, summary, options, presets, and what a method says of its needs and regimes.

    Every option has a description and a default that its own bounds allow; unknown and infinite
    ones are refused; presets hold what presets decide, and options that the class has.
    """
    check_declaration(cls)
    check_options(cls)
    check_all_presets(cls)


def check_declaration(cls: type[Plugin]) -> None:
    """What ``validate`` of its kind looks at, a docstring, and a summary of one line."""
    try:
        cls.validate()
    except PluginError as error:
        raise AssertionError(f"{cls.__name__}: {error}") from error
    assert vars(cls).get("__doc__"), f"{cls.name}: the class has no docstring of its own"
    assert len(cls.summary()) < SUMMARY, f"{cls.name}: its summary is longer than a line"


def check_all_presets(cls: type[Plugin]) -> None:
    """Presets hold what presets decide, and options that the class has."""
    for preset, settings in cls.presets.items():
        _check_preset(cls, preset, settings)


def _declaration(case: Case) -> None:
    check_declaration(case.cls)


def _options(case: Case) -> str | None:
    check_options(case.cls)
    return None if case.cls.options_type.model_fields else "it has no options"


def _presets(case: Case) -> str | None:
    check_all_presets(case.cls)
    return None if case.cls.presets else "it has no presets"


PLUGIN_CHECKS: tuple[Check[Case], ...] = (
    Check("declaration", "name, citation, docstring and a summary of one line", _declaration, True),
    Check("options", "descriptions, bounds, defaults that last, JSON", _options, True),
    Check("presets", "hold settings and options that exist", _presets, True),
)
"""What every kit begins with; they look at the class alone."""


def check_options(cls: type[Plugin]) -> None:
    """Each has a description; unknown and infinite ones are refused; defaults are allowed."""
    settings = cls.options_type.model_config
    assert settings.get("extra") == "forbid", f"{cls.name}: its options take any key"
    assert settings.get("frozen"), f"{cls.name}: its options can be changed after they were checked"
    assert settings.get("allow_inf_nan") is False, f"{cls.name}: its options take infinite numbers"
    for key, field in cls.options_type.model_fields.items():
        assert field.description, f"{cls.name}: option {key!r} has no description"
    if any(field.is_required() for field in cls.options_type.model_fields.values()):
        return
    first, second = (cls.create().options.model_dump(mode="json") for _ in range(2))
    assert first == second, f"{cls.name}: the defaults of its options change"
    json.dumps(first, allow_nan=False)
    try:
        again = cls.create(first).options.model_dump(mode="json")
    except OptionError as error:
        raise AssertionError(f"{cls.name}: a default that its bounds refuse: {error}") from error
    assert again == first, f"{cls.name}: its options do not survive JSON"


def _check_preset(cls: type[Plugin], preset: str, settings: Any) -> None:
    label = f"{cls.name}: preset {preset!r}"
    try:
        decided = Settings.model_validate(dict(settings))
        decided.budget(finetune=False)
        decided.budget(finetune=True)
        cls.create(_own_options(cls, decided))
    except (MsgmBenchError, ValueError, TypeError) as error:
        raise AssertionError(f"{label}: {error}") from error


def quick_options(cls: type[Plugin]) -> dict[str, Any]:
    """The options of the class in its preset ``quick``, where it has one that is sound."""
    try:
        return dict(_own_options(cls, Settings.model_validate(dict(cls.presets.get("quick", {})))))
    except ValueError:  # the check of presets names it
        return {}


def _own_options(cls: type[Plugin], decided: Settings) -> dict[str, Any]:
    """What a preset of ``cls`` says of its own options."""
    if issubclass(cls, Method):
        return decided.method
    if issubclass(cls, Backbone):
        return decided.backbone
    if issubclass(cls, Judge):
        return {key: value for key, value in decided.judge.items() if key != "name"}
    if issubclass(cls, Task):
        return decided.tasks.get(cls.name, {})
    return decided.metrics.get(cls.name, {}) if issubclass(cls, Metric) else {}


def variations(plugin: Plugin) -> Iterator[tuple[str, Plugin]]:
    """The plugin with one option changed, as far as another value is plain: (option, plugin).

    Numbers, truth values and choices are changed; options with ``exclude`` change no outcome.
    """
    cls = type(plugin)
    for key, field in cls.options_type.model_fields.items():
        value = getattr(plugin.options, key)
        for other in [] if field.exclude else _other_values(value, field.annotation):
            options = plugin.options.model_dump() | {key: other}
            try:
                yield key, cls.create(options)
            except OptionError:
                continue
            break


def _other_values(value: Any, annotation: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, float):
        return [value / 2, 2 * value, (1 + value) / 2]
    choices = get_args(annotation)
    return [choice for choice in choices if isinstance(choice, str) and choice != value]
