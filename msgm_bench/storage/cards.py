"""Cards beside weights: JSON objects with a bounded schema and no unread field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from msgm_bench.errors import IncompatibleError, StorageError, key_at, shorten
from msgm_bench.storage.names import single_line
from msgm_bench.storage.readers import MIB, error_summary, read_json
from msgm_bench.storage.validation import allowed_value

CARD_LIMIT = MIB


class Card(BaseModel):
    """A card with a closed schema: an unknown field is an error, and no value is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    @classmethod
    def validated_fields(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields to validate: all of them."""
        return dict(values)


class ForeignCard(Card):
    """A card of another program, of any version.

    An unknown field is ignored where it is null or false, and where its name begins with an
    underscore, that program's own bookkeeping; any other is an error, since its meaning is unknown.

    Attributes:
        ignored: Fields that do not describe the network.
    """

    ignored: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def validated_fields(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields without the ignored ones, in nested cards, too."""
        known = {field.alias or name: field.annotation for name, field in cls.model_fields.items()}
        ignored = {
            key
            for key, value in values.items()
            if key in cls.ignored or key.startswith("_") or value is None or value is False
        }
        return {
            key: _validated_value(known.get(key), value)
            for key, value in values.items()
            if key in known or key not in ignored
        }


def _validated_value(schema: Any, value: Any) -> Any:
    inner = isinstance(schema, type) and issubclass(schema, ForeignCard) and isinstance(value, dict)
    return schema.validated_fields(value) if inner else value


CardT = TypeVar("CardT", bound=Card)


def read_card(path: Path, schema: type[CardT], inside: Path | None = None) -> CardT:
    """The card at ``path``.

    Raises:
        StorageError: The file does not exist, is no regular file, too large or no JSON object.
        IncompatibleError: A field is unknown, missing, of the wrong type or out of range.
    """
    value, name = read_json(path, inside, CARD_LIMIT), single_line(path)
    if not isinstance(value, dict):
        raise StorageError(f"{name} holds {type(value).__name__}", "a JSON object")
    return parse_card(value, schema, name)


def parse_card(value: Mapping[str, Any], schema: type[CardT], name: str) -> CardT:
    """``value`` as a card; ``name`` names its file in errors.

    Raises:
        IncompatibleError: As ``read_card``.
    """
    try:
        return schema.model_validate_json(json.dumps(schema.validated_fields(value)))
    except (ValidationError, ValueError, RecursionError) as error:
        raise _card_error(error, value, name) from error


def _card_error(error: Exception, value: Mapping[str, Any], name: str) -> IncompatibleError:
    if not isinstance(error, ValidationError):
        return IncompatibleError(f"{name}: {error_summary(error)}")
    first = error.errors(include_url=False)[0]
    key = single_line(key_at(first["loc"], value))[:120]
    if first["type"] == "extra_forbidden":
        return IncompatibleError(
            f"{name}: {key} = {short(first['input'])} is not understood",
            "fields whose meaning is known",
            "a network that rests on it would mean something else here",
        )
    if first["type"] == "missing":
        return IncompatibleError(f"{name} lacks {key}")
    reason = allowed_value(first)
    if not key:  # a conflict of several fields
        return IncompatibleError(f"{name}: {error_summary(Exception(reason))}")
    return IncompatibleError(
        f"{name}: {key} = {short(first['input'])}", error_summary(Exception(reason))
    )


def short(value: Any, limit: int = 60) -> str:
    """``value`` as a text of at most ``limit`` letters."""
    text = single_line(
        repr(value) if not isinstance(value, dict | list) else json.dumps(value, default=str)
    )
    return shorten(text, limit)
