"""How far the results of a board are to be believed: ``trust.yaml`` beside them.

claimed: whoever made the result says so. recomputed: the values of the board follow from what the
submission shipped, item by item. re-run: the board's keepers ran the command themselves. A result
without a record, or that is no longer the one of its record, is claimed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError

from msgm_bench.api.plugin import Options
from msgm_bench.api.result import Result, digest
from msgm_bench.errors import StorageError
from msgm_bench.storage import dump_yaml, read_yaml, single_line, write_text
from msgm_bench.storage.validation_text import validation_text

TRUST_FILE = "trust.yaml"
Level = Literal["claimed", "recomputed", "re-run"]
LEVELS: tuple[Level, ...] = ("claimed", "recomputed", "re-run")


class Trust(Options):
    """The record of one result."""

    level: Level = Field(description="claimed, recomputed or re-run")
    digest: str = Field(
        pattern="^[0-9a-f]{64}$", description="SHA-256 of the whole result, provenance included"
    )
    submission: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 of the archive that it came in"
    )


Records = dict[str, Trust]
_RECORDS: TypeAdapter[Records] = TypeAdapter(Records)


def record_name(result: Result) -> str:
    """The key of a result's record: ``METHOD-sSEED``."""
    return f"{result.spec.method}-s{result.spec.seed}"


def document_digest(result: Result) -> str:
    """SHA-256 of all of a result; its own digest leaves command, judge's report and times out."""
    return digest(result.model_dump(mode="json"))


def read_trust(folder: Path) -> Records:
    """The records of a board's folder, by ``METHOD-sSEED``; none where there is no file.

    Raises:
        StorageError: The file cannot be read, or holds something else.
    """
    path = folder / TRUST_FILE
    if not path.is_file():
        return {}
    try:
        return _RECORDS.validate_python(read_yaml(path, inside=folder) or {})
    except ValidationError as error:
        raise StorageError(
            f"{single_line(path)}: {validation_text(error)}",
            "METHOD-sSEED: {level, digest, submission}",
        ) from error


def record_trust(
    folder: Path, results: Iterable[Result], level: Level, submission: str | None = None
) -> None:
    """Record that results of a board are of a level; a lower one never replaces a higher.

    Raises:
        StorageError: The file cannot be read or written.
    """
    records = read_trust(folder)
    for result in results:
        name, own = record_name(result), document_digest(result)
        old = records.get(name)
        same = old if old is not None and old.digest == own else None
        if same is not None and LEVELS.index(same.level) >= LEVELS.index(level):
            continue
        origin = same.submission if same is not None and submission is None else submission
        records[name] = Trust(level=level, digest=own, submission=origin)
    content = {name: trust.model_dump(exclude_none=True) for name, trust in records.items()}
    write_text(folder / TRUST_FILE, dump_yaml(content))


def level_of(records: Mapping[str, Trust], result: Result) -> Level:
    """The level of one result."""
    record = records.get(record_name(result))
    if record is None or record.digest != document_digest(result):
        return "claimed"
    return record.level


def method_levels(records: Mapping[str, Trust], results: Iterable[Result]) -> dict[str, Level]:
    """The lowest level of each method's results."""
    levels: dict[str, Level] = {}
    for result in results:
        level, method = level_of(records, result), result.spec.method
        levels[method] = min(levels.get(method, level), level, key=LEVELS.index)
    return levels
