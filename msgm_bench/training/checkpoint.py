"""Atomic checkpoints of a training stage."""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path
from typing import Any

import torch

from msgm_bench.errors import StorageError
from msgm_bench.ranks import current as current_ranks
from msgm_bench.storage import atomic_write

log = logging.getLogger(__name__)
NAME = "checkpoint.pt"
SEAL = hashlib.sha256().digest_size


def save(folder: Path, state: dict[str, Any]) -> None:
    """Replace the folder's checkpoint atomically.

    Raises:
        StorageError: The disk is full or the folder is not writable; the last checkpoint stays.
    """
    with atomic_write(folder / NAME) as path:
        torch.save(state, path)
        with path.open("r+b") as file:  # the seal: torch.load itself compares no checksums
            file.write(hashlib.file_digest(file, "sha256").digest())


def load(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The folder's checkpoint, or None; the same in all processes of a run.

    A damaged checkpoint is deleted: training starts again and ends with the same weights.

    Raises:
        StorageError: The processes find different ones.
    """
    path = folder / NAME
    content = _content(path)
    _check_same("" if content is None else hashlib.sha256(content).hexdigest())
    if content is None:
        return None
    body, seal = content[:-SEAL], content[-SEAL:]
    if hashlib.sha256(body).digest() != seal:
        log.warning("checkpoint %s is damaged: this stage starts again", path.name)
        path.unlink(missing_ok=True)  # another process of the run may be first
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    return state


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _check_same(digest: str) -> None:
    """Compare the checkpoints that the processes of a run find.

    Raises:
        StorageError: They differ: the folder is not one that all of them see.
    """
    if len(set(current_ranks().gather(digest))) > 1:
        raise StorageError(
            "the processes of this run find different checkpoints",
            "a cache (MSGM_BENCH_CACHE) on a disk that all of them share",
        )
