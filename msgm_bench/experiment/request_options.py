"""Options of a request from the texts of a command line, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgm_bench.api import Training, read_option, write_option
from msgm_bench.registry import registry

PLAIN = {  # fields with options of one plugin: its kind, and the field that names it
    "params": ("methods", "method"),
    "backbone_params": ("backbones", "backbone"),
    "dataset_params": ("datasets", "dataset"),
}
SCOPED = {"task_params": "tasks", "metric_params": "metrics"}  # with options by plugin


def read_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request in which every ``OptionText`` is read by the type of its option."""
    fields = dict(values)
    for name in (*PLAIN, "judge_params", "training_params"):
        if isinstance(options := fields.get(name), Mapping):
            fields[name] = {
                key: read_option(value, option_type(fields, name, key))
                for key, value in options.items()
            }
    for name, kind in SCOPED.items():
        if isinstance(plugins := fields.get(name), Mapping):
            fields[name] = {
                plugin: {
                    k: read_option(v, _annotation(kind, plugin, k)) for k, v in options.items()
                }
                if isinstance(options, Mapping)
                else options
                for plugin, options in plugins.items()
            }
    return fields


def write_options(values: Mapping[str, Any], field: str) -> dict[str, str]:
    """Text of each option of ``field``, from which ``read_options`` makes an equal value.

    Keys are ``PLUGIN.key`` where the field has options by plugin. An option of type text that is
    None has no text and is left out: None is its default.
    """
    typed: Iterator[tuple[str, Any, Any]]
    if field in SCOPED:
        typed = (
            (f"{plugin}.{key}", value, _annotation(SCOPED[field], plugin, key))
            for plugin, options in values[field].items()
            for key, value in options.items()
        )
    else:
        typed = ((k, v, option_type(values, field, k)) for k, v in values[field].items())
    texts = ((key, write_option(value, annotation)) for key, value, annotation in typed)
    return {key: text for key, text in texts if text is not None}


def option_type(values: Mapping[str, Any], field: str, key: str) -> Any:
    """Annotation of an option of the plugin that ``values`` name; ``Any`` if none declares it."""
    if field == "training_params":
        setting = Training.model_fields.get(key)
        return Any if setting is None else setting.annotation
    if field != "judge_params":
        kind, name = PLAIN[field]
        return _annotation(kind, values.get(name), key)
    if key == "name":
        return str | list[str]
    choice = values[field].get("name")
    judges = [choice] if isinstance(choice, str) else registry().names("judges")
    annotations = (_annotation("judges", str(judge), key) for judge in judges)
    return next((annotation for annotation in annotations if annotation is not Any), Any)


def _annotation(kind: str, name: Any, key: str) -> Any:
    if not isinstance(name, str) or name not in registry().names(kind):
        return Any
    field = registry().entry(kind, name).cls.options_type.model_fields.get(key)
    return Any if field is None else field.annotation
