"""``key=value`` on a command line: the type of the option says how its text is read.

An option of type text takes the text as it was typed (``my photos #2``, ``~``, ``2024``); so does
one of several words where the text is one of them. Everything else is YAML: a number, true or
false, null, a list, a mapping.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from msgm_bench.errors import StorageError
from msgm_bench.registry import registry
from msgm_bench.storage import one_line_yaml, parse_yaml

PLAIN = {  # fields of a request with options of one plugin: its kind, and the field of its name
    "params": ("methods", "method"),
    "backbone_params": ("backbones", "backbone"),
    "dataset_params": ("datasets", "dataset"),
}
SCOPED = {"task_params": "tasks", "metric_params": "metrics"}  # with options by plugin


class OptionText(str):
    """The value of ``key=value`` as it was typed, not read yet."""

    __slots__ = ()


def read_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request in which every ``OptionText`` is read by the type of its option."""
    fields = dict(values)
    for name in (*PLAIN, "judge_params"):
        if isinstance(options := fields.get(name), Mapping):
            fields[name] = {k: _read(v, option_type(fields, name, k)) for k, v in options.items()}
    for name, kind in SCOPED.items():
        if isinstance(plugins := fields.get(name), Mapping):
            fields[name] = {
                plugin: {k: _read(v, _declared(kind, plugin, k)) for k, v in options.items()}
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
            (f"{plugin}.{key}", value, _declared(SCOPED[field], plugin, key))
            for plugin, options in values[field].items()
            for key, value in options.items()
        )
    else:
        typed = ((k, v, option_type(values, field, k)) for k, v in values[field].items())
    texts = ((key, _write(value, annotation)) for key, value, annotation in typed)
    return {key: text for key, text in texts if text is not None}


def option_type(values: Mapping[str, Any], field: str, key: str) -> Any:
    """Annotation of an option of the plugin that ``values`` name; ``Any`` if nobody declares it."""
    if field != "judge_params":
        kind, named = PLAIN[field]
        return _declared(kind, values.get(named), key)
    if key == "name":
        return str | list[str]
    chosen = values[field].get("name")
    judges = [chosen] if isinstance(chosen, str) else registry().names("judges")
    types_ = (_declared("judges", str(judge), key) for judge in judges)
    return next((annotation for annotation in types_ if annotation is not Any), Any)


def _declared(kind: str, name: Any, key: str) -> Any:
    if not isinstance(name, str) or name not in registry().names(kind):
        return Any
    field = registry().entry(kind, name).cls.Config.model_fields.get(key)
    return Any if field is None else field.annotation


def _members(annotation: Any) -> tuple[Any, ...]:
    """The types of a union but None, or the one type."""
    union = get_origin(annotation) in (Union, types.UnionType)
    members = get_args(annotation) if union else (annotation,)
    return tuple(member for member in members if member is not type(None))


def _is_text(annotation: Any) -> bool:
    return all(member in (str, Path) for member in _members(annotation))


def _words(annotation: Any) -> set[str]:
    """Texts that a ``Literal`` among the types allows."""
    literals = (get_args(m) for m in _members(annotation) if get_origin(m) is Literal)
    return {word for words in literals for word in words if isinstance(word, str)}


def _is_plain(text: str, annotation: Any) -> bool:
    """Whether the text stands for itself."""
    lists = text.lstrip().startswith(("[", "{", '"', "'"))
    mixed = str in _members(annotation) and not lists
    return _is_text(annotation) or mixed or text in _words(annotation)


def _read(value: Any, annotation: Any) -> Any:
    if not isinstance(value, OptionText):
        return value
    text = str(value)
    if not text or _is_plain(text, annotation):
        return text
    try:
        return parse_yaml(text, "the value")
    except StorageError:
        return text


def _write(value: Any, annotation: Any) -> str | None:
    if isinstance(value, str) and (not value or _is_plain(value, annotation)):
        return value
    if value is None and _is_text(annotation):
        return None
    return one_line_yaml(value)
