"""Atomic checkpoints of a training stage."""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path
from typing import Any

import torch

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
    """The folder's checkpoint, or None.

    A damaged checkpoint is deleted: training starts again and ends with the same weights.
    """
    path = folder / NAME
    if not path.exists():
        return None
    content = path.read_bytes()
    body, seal = content[:-SEAL], content[-SEAL:]
    if hashlib.sha256(body).digest() != seal:
        log.warning("checkpoint %s is damaged: this stage starts again", path.name)
        path.unlink()
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    return state
