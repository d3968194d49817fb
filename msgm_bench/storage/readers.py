"""The one reader of untrusted files: results, boards, specs, cards, tables.

A file is regular, lies inside its folder, is not larger than its kind may be, nests no deeper than
``DEPTH``, repeats nothing by aliases or double keys and holds finite numbers. Any fault
is an error of one sentence with the file's name.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

import yaml

from msgm_bench.errors import StorageError, shorten
from msgm_bench.storage.names import single_line
from msgm_bench.storage.yaml_text import CoreLoader

MIB = 2**20
TEXT_LIMIT, YAML_LIMIT = 16 * MIB, MIB // 4
DEPTH, DIGITS = 64, 400
# a pipe must not hang; Windows would translate line ends, and lacks the other two
READ_FLAGS = os.O_RDONLY | sum(getattr(os, f"O_{x}", 0) for x in ("CLOEXEC", "NONBLOCK", "BINARY"))
_QUOTED, _BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL), re.compile(r"[][{}]")


def read_bytes(path: Path, inside: Path | None = None, limit: int = TEXT_LIMIT) -> bytes:
    """The bytes of a regular file.

    Args:
        path: The file.
        inside: The folder in which it must lie after symbolic links are followed; its own
            folder by default.
        limit: The largest size in bytes.

    Raises:
        StorageError: It is not there, no regular file, outside ``inside`` or too large.
    """
    name = single_line(path)
    try:
        with open_regular(path, inside) as file:
            large = os.fstat(file.fileno()).st_size > limit
            content = b"" if large else file.read(limit + 1)  # a file may grow, or have no size
    except OSError as error:
        raise StorageError(f"{name} cannot be read: {error_summary(error)}") from error
    if large or len(content) > limit:
        raise StorageError(f"{name} is larger than {_size(limit)}", f"at most {_size(limit)}")
    return content


def open_regular(path: Path, inside: Path | None = None) -> BufferedReader:
    """A regular file, open for reading.

    Args:
        path: The file.
        inside: As in ``read_bytes``.

    Raises:
        StorageError: It is not there, no regular file or outside ``inside``.
    """
    name = single_line(path)
    try:
        folder = (path.parent if inside is None else inside).resolve()
        if not path.resolve().is_relative_to(folder):
            raise StorageError(
                f"{name} leads out of its folder",
                f"a file inside {single_line(folder)}",
                "copy the file itself to that place",
            )
        descriptor = os.open(path, READ_FLAGS)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StorageError(f"{name} is no regular file", "a regular file")
        return open(descriptor, "rb")
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name, a loop of links
        reason = getattr(error, "strerror", None) or str(error)
        raise StorageError(f"{name} cannot be read: {single_line(reason)}") from error


def read_text(path: Path, inside: Path | None = None, limit: int = TEXT_LIMIT) -> str:
    """The UTF-8 text of a file, without a byte-order mark.

    Raises:
        StorageError: As ``read_bytes``, or it is not UTF-8.
    """
    return _decode(read_bytes(path, inside, limit), single_line(path))


def read_json(path: Path, inside: Path | None = None, limit: int = TEXT_LIMIT) -> Any:
    """The value of a JSON file.

    Raises:
        StorageError: As ``read_text`` and ``parse_json``.
    """
    return parse_json(read_text(path, inside, limit), single_line(path))


def read_yaml(path: Path, inside: Path | None = None, limit: int = YAML_LIMIT) -> Any:
    """The value of a YAML file, by the core schema (``msgm_bench.storage.yaml_text``).

    Raises:
        StorageError: As ``read_text`` and ``parse_yaml``.
    """
    return parse_yaml(read_text(path, inside, limit), single_line(path))


def parse_json(text: str, name: str) -> Any:
    """The value of a JSON text.

    Raises:
        StorageError: It is no JSON, nests too deeply, names a key twice or holds a number that
            is not finite or absurdly long; ``name`` says where.
    """
    try:
        _check_brackets(text)
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_parse_float,
            parse_int=_parse_integer,
            object_pairs_hook=_unique_keys,
        )
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{name} is not valid JSON: {error_summary(error)}") from error
    return value


def parse_yaml(text: str, name: str) -> Any:
    """The value of a YAML text: one document of plain values.

    Raises:
        StorageError: It is no YAML, uses aliases, nests too deeply, names a key twice or holds a
            number that is not finite or absurdly long; ``name`` says where.
    """
    try:
        _check_events(text)
        return _plain_value(yaml.load(text, Loader=CoreLoader))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, AttributeError) as error:
        raise StorageError(f"{name} is not valid YAML: {error_summary(error)}") from error


def error_summary(error: BaseException, limit: int = 160) -> str:
    """Message of an error, on one line of at most ``limit`` letters."""
    text = single_line(" ".join(str(error).split())) or type(error).__name__
    return shorten(text, limit)


def _decode(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StorageError(f"{name} is no UTF-8 text: byte {error.start} is not") from error


def _size(count: int) -> str:
    return f"{count / MIB:g} MiB"


def _check_brackets(text: str) -> None:
    """Refuse deep nesting before a recursive parser reads the text."""
    depth = 0
    for bracket in _BRACKET.findall(_QUOTED.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > DEPTH:
            raise ValueError(f"it nests more than {DEPTH} levels deep")


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no finite number")


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value


def _parse_integer(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"a number {len(text)} characters long")
    return int(text)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:40]!r} stands twice")
    return value


def _check_events(text: str) -> None:
    """Refuse aliases and deep nesting before any value is built."""
    depth = 0
    for event in yaml.parse(text, Loader=CoreLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"it uses the alias *{str(event.anchor)[:40]}: write the value out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH:
                raise ValueError(f"it nests more than {DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and event.implicit[0]:
            _check_digits(event.value)


def _check_digits(scalar: str) -> None:
    if len(scalar) > DIGITS and scalar.lstrip("-").isdigit():
        raise ValueError(f"a number {len(scalar)} characters long")


def _plain_value(value: Any) -> Any:
    """``value``, if JSON can represent it.

    Raises:
        ValueError: It holds a set, a date, bytes, a key that is no text, or no finite number.
    """
    if isinstance(value, dict):
        odd = next((key for key in value if not isinstance(key, str)), None)
        if odd is not None or None in value:
            raise ValueError(f"the key {str(odd)[:40]} is no text: quote it")
        return {key: _plain_value(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain_value(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no finite number")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"a value of type {type(value).__name__}")
