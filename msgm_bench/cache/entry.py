"""Finished stages on disk: records of their files, and whether they are whole."""

from __future__ import annotations

import hashlib
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from msgm_bench.errors import StorageError
from msgm_bench.storage import read_json

RECORD = "stage.json"


class FileRecord(BaseModel):
    """A file of an entry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: int = Field(ge=0)
    sha256: str


class StageRecord(BaseModel):
    """``stage.json``: name and inputs of the stage, and the files that the entry must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    inputs: dict[str, Any]
    seconds: float = Field(0.0, ge=0, allow_inf_nan=False)
    files: dict[str, FileRecord]

    @field_validator("files")
    @classmethod
    def _plain_names(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        if any(Path(name).name != name for name in files):
            raise ValueError("a file's name is a path")
        return files


DAMAGED = StageRecord(name="damaged", inputs={}, files={})


@dataclass(frozen=True)
class Entry:
    """One finished stage in the cache."""

    path: Path
    record: StageRecord

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.bytes for file in self.record.files.values())

    @property
    def seconds(self) -> float:
        """Seconds of the computation; after a kill, of the last attempt."""
        return self.record.seconds


def read_record(folder: Path) -> StageRecord | None:
    """The record of an entry; None where there is none or it is damaged."""
    try:
        return StageRecord.model_validate(read_json(folder / RECORD))
    except (StorageError, ValidationError):
        return None


def is_plain(path: Path) -> bool:
    """Whether ``path`` is a regular file, and no link to one."""
    return path.is_file() and not path.is_symlink()


def payload(folder: Path) -> list[Path]:
    """The files of a stage, but for its record."""
    return sorted(p for p in folder.iterdir() if is_plain(p) and p.name != RECORD)


def describe(path: Path) -> FileRecord:
    """Size and hash of a file."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(bytes=path.stat().st_size, sha256=sha256)


def matches(folder: Path, record: StageRecord) -> bool:
    """Whether the folder's files have the sizes and hashes of the record."""
    paths = {folder / name: file for name, file in record.files.items()}
    try:
        return all(is_plain(path) and describe(path) == file for path, file in paths.items())
    except OSError:
        return False


def contents(place: Path) -> list[Path]:
    """Paths in a folder; none where there is no folder."""
    return [*place.iterdir()] if place.is_dir() else []


def modified(path: Path) -> float:
    """Time of the last change, in seconds; infinite for a path that has just been deleted."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return math.inf


def size_of(path: Path) -> int:
    """Bytes of the files under a path."""
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if is_plain(file))


def remove(path: Path) -> None:
    """Delete a file, a folder or a link; never the target of a link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
