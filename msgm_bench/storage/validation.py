"""What is allowed where pydantic refuses a value, in the words of this program's errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ALLOWED: Mapping[str, str] = {
    "missing": "a value",
    "string_type": "text",
    "string_too_short": "text of at least {min_length} letters",
    "string_too_long": "text of at most {max_length} letters",
    "string_pattern_mismatch": "text that matches {pattern}",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "too_short": "{min_length} or more entries",
    "too_long": "{max_length} or fewer entries",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "none_required": "null",
    "path_type": "a path",
}
"""What is allowed, by the type of pydantic's error; in braces what it says of the bound."""

NAME_PATTERN = r"^[a-z0-9][a-z0-9_.-]{0,63}$"
PATTERNS: Mapping[str, str] = {
    NAME_PATTERN: "a name of at most 64 letters of a-z 0-9 _ . -, the first of a-z 0-9",
    r"^[0-9a-f]{64}$": "64 letters of 0-9 a-f",
    r"^([0-9a-f]{64})?$": "64 letters of 0-9 a-f, or nothing",
}
"""Regular expressions in words; others stand as they are."""

PREFIXES = ("Value error, ", "Assertion failed, ")


def allowed_value(error: Mapping[str, Any]) -> str:
    """What is allowed in the place of the value of one of ``ValidationError.errors()``.

    The words of a validator of our own stand as they are.
    """
    template = ALLOWED.get(error["type"])
    if template is None:
        message: str = error["msg"]
        for prefix in PREFIXES:
            message = message.removeprefix(prefix)
        return message
    context = error.get("ctx", {})
    if context.get("pattern") in PATTERNS:
        return PATTERNS[context["pattern"]]
    text = template.format(**context)
    return text.replace("'", "") if error["type"] in ("literal_error", "enum") else text


def allowed_values(errors: Sequence[Mapping[str, Any]]) -> str:
    """What is allowed in the place of the first error's value, which may be of several types."""
    first = errors[0]
    same = [e for e in errors if e["loc"][:1] == first["loc"][:1] and e["input"] is first["input"]]
    return " or ".join(dict.fromkeys(map(allowed_value, same)))
