"""``key=value`` on a command line: the type of the option says how its text is read.

An option of type text takes the text as it was typed (``my photos #2``, ``~``, ``2024``); so does
one of several words where the text is one of them. Everything else is YAML: a number, true or
false, null, a list, a mapping.
"""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from msgm_bench.errors import StorageError
from msgm_bench.storage import one_line_yaml, parse_yaml


class OptionText(str):
    """The value of ``key=value`` as it was typed, not read yet."""

    __slots__ = ()


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


def read_option(value: Any, annotation: Any) -> Any:
    """The value that an ``OptionText`` has for an option of this type; any other as it is."""
    if not isinstance(value, OptionText):
        return value
    text = str(value)
    if not text or _is_plain(text, annotation):
        return text
    try:
        return parse_yaml(text, "the value")
    except StorageError:
        return text


def write_option(value: Any, annotation: Any) -> str | None:
    """Text from which ``read_option`` makes an equal value; None where there is none.

    An option of type text that is None has no text: None is its default.
    """
    if isinstance(value, str) and (not value or _is_plain(value, annotation)):
        return value
    if value is None and _is_text(annotation):
        return None
    return one_line_yaml(value)
