"""Weights of embedders: files that are on the machine or not, and never downloaded unasked."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from pathlib import Path
from typing import Annotated

import platformdirs
import torch
from pydantic import AfterValidator

from msgm_bench import StorageError
from msgm_bench.storage import MIB, open_regular, single_line
from msgm_bench.storage.pickles import PICKLE_LIMIT
from msgm_bench.storage.tensors import open_tensors

ANYWHERE = Path("/")  # files that the user names may be links to any place
VARIABLE = "MSGM_BENCH_DATA"
WHERE = f"{VARIABLE}, the user's data folder or torch hub's checkpoints"


def places() -> list[Path]:
    """Folders that are searched for weights, in order."""
    named = os.environ.get(VARIABLE)
    first = [Path(named).expanduser().absolute()] if named else []
    own = platformdirs.user_data_path("msgm-bench", appauthor=False)
    return [*first, own, Path(torch.hub.get_dir()) / "checkpoints"]


def find(name: str, path: str | None = None) -> Path | None:
    """The file or folder at ``path``, or else called ``name`` in the first place that has it."""
    candidates = [Path(path).expanduser()] if path else [place / name for place in places()]
    return next((found for found in candidates if found.exists()), None)


def error_summary(error: BaseException) -> str:
    """What an error says: its first line, and the second where the first only leads to it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first, *rest = lines or [type(error).__name__]
    return f"{first} {rest[0]}" if rest and first.endswith(":") else first


def _existing(path: str | None) -> str | None:
    if path is not None and not Path(path).expanduser().exists():
        raise ValueError("there is nothing at this path")
    return path


ExistingPath = Annotated[str | None, AfterValidator(_existing)]
"""A file or folder that a user names, which must be there."""


def sha256(path: Path) -> str:
    """SHA-256 of a regular file, computed once for each state of it.

    Raises:
        StorageError: It cannot be read, or is by its header or size no weights that are read.
    """
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _sha256(path: Path, size: int, changed: int) -> str:
    if path.suffix == ".safetensors":
        with open_tensors(path, ANYWHERE):  # its header is sound: it is worth the time
            pass
    elif size > PICKLE_LIMIT:
        limit = f"at most {PICKLE_LIMIT / MIB:g} MiB"
        raise StorageError(f"{single_line(path)} has {size / MIB:,.0f} MiB", limit)
    with open_regular(path, ANYWHERE) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damage(path: Path) -> str | None:
    """What is wrong with a file that carries the start of its checksum in its name, or None.

    The convention is torch hub's: ``name-6726825d.pth``.
    """
    told = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", path.name)
    if told is None or sha256(path).startswith(told[1]):
        return None
    return f"the file {path.name} is damaged: its SHA-256 starts with {sha256(path)[:8]}"
