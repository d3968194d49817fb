"""What is wrong with a document that a schema refuses, in one sentence."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from msgm_bench.errors import shorten
from msgm_bench.storage.names import single_line
from msgm_bench.storage.validation import ALLOWED, allowed_value

FIELD_LIMIT, VALUE_LIMIT, TEXT_LIMIT = 80, 60, 300  # letters


def validation_text(error: ValidationError | RecursionError) -> str:
    """The first error, on one line: the field, what is there, and what is allowed there."""
    if isinstance(error, RecursionError):
        return "it nests too deeply"
    first = error.errors(include_url=False)[0]
    field = shorten(single_line(".".join(map(str, first["loc"]))), FIELD_LIMIT)
    if first["type"] == "extra_forbidden":
        return f"it has a field {field}, which is unknown"
    if first["type"] == "missing":
        return f"it lacks the field {field}"
    allowed = shorten(single_line(allowed_value(first)), TEXT_LIMIT)
    if first["type"] in ALLOWED:
        return f"{field or 'it'} is {value_text(first['input'])}, not {allowed}"
    return f"{field}: {allowed}" if field else allowed


def value_text(value: Any) -> str:
    """A value as JSON has it, shortened; a text in quotes with its control letters escaped."""
    if isinstance(value, str):
        return single_line(repr(shorten(value, VALUE_LIMIT)))
    is_plain = value is None or isinstance(value, bool | int | float)
    return shorten(single_line(json.dumps(value) if is_plain else repr(value)), VALUE_LIMIT)
