"""Atomic checkpoints of everything that a training stage needs to go on."""

from __future__ import annotations

import logging
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from msgm_bench.storage import atomic

log = logging.getLogger(__name__)
NAME = "checkpoint.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Replace the folder's checkpoint in one step.

    Raises:
        StorageError: The disk is full or the folder cannot be written; the last
            checkpoint is still there.
    """
    with atomic(folder / NAME) as path:
        torch.save(state, path)


def load(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The folder's checkpoint; None where there is none or it is damaged.

    A damaged one is set aside: training starts again and ends with the same weights.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, zipfile.BadZipFile, KeyError) as error:
        log.warning("checkpoint %s is damaged (%s): this stage starts again", path.name, error)
        path.unlink()
        return None
    return state
