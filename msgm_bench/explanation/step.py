"""A step on the way to a number, and its facts as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgm_bench.boards.protocols import flatten
from msgm_bench.storage import single_line

HASH = 12  # letters of a hash in a text


@dataclass(frozen=True)
class Step:
    """A step on the way to a number.

    Attributes:
        title: What kind of step it is.
        summary: What was done, in a line.
        facts: Labels and texts, such as options, hashes and the folder of the stage.
    """

    title: str
    summary: str
    facts: tuple[tuple[str, str], ...] = ()


def facts(**texts: str) -> tuple[tuple[str, str], ...]:
    """Labels and texts on one line each, without the empty ones; ``_`` in a label is a space."""
    return tuple(
        (label.replace("_", " "), single_line(text)) for label, text in texts.items() if text
    )


def short_hash(value: object) -> str:
    """The beginning of a hash; empty for what is no text."""
    return single_line(value)[:HASH] if isinstance(value, str) else ""


def options_text(options: Mapping[str, Any]) -> str:
    """``key = value, key = value`` of nested options."""
    return ", ".join(f"{key} = {value_text(value)}" for key, value in flatten(options).items())


def value_text(value: Any) -> str:
    """A value of JSON: numbers and texts as they are, null as ``none``."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return value if value and isinstance(value, str) else json.dumps(value)


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` where it is a mapping, else an empty one: parts of a result are free in shape."""
    return value if isinstance(value, Mapping) else {}


def number(value: Any) -> float | None:
    """``value`` where it is a number, else None."""
    return float(value) if isinstance(value, int | float) else None
