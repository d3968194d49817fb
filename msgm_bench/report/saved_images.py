"""The images and points of a run's pictures, saved beside them to draw runs side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from msgm_bench.errors import StorageError
from msgm_bench.storage import MIB, single_line
from msgm_bench.storage.tensors import load_tensors, save_tensors

IMAGES_FILE = "pictures.safetensors"
IMAGES, POINTS = 20, 4000  # saved items of a row
LIMIT = 256 * MIB
SIDE = 4096
DATA = "data"  # name of the rows that belong to no task

Rows = Mapping[str, Mapping[str, Tensor]]
"""Rows of [0, 1] images ``[N, C, H, W]`` or points ``[N, 2]``, by task and caption.

Item i of a row comes from noise, or from a held-out item, that i and the seed determine.
"""


def write(folder: Path, rows: Rows) -> None:
    """Save the first items of every row: ``IMAGES`` images or ``POINTS`` points."""
    captions = [(task, caption, x) for task, part in rows.items() for caption, x in part.items()]
    tensors = {
        f"{i:06d}/{task}/{caption}": x[: POINTS if x.ndim == 2 else IMAGES]
        for i, (task, caption, x) in enumerate(captions)
    }
    save_tensors(folder / IMAGES_FILE, tensors)


def read(folder: Path, inside: Path | None = None) -> dict[str, dict[str, Tensor]]:
    """The rows in their order; empty where the folder has no such file.

    Args:
        folder: The folder.
        inside: The folder that it must not leave by links; its own by default.

    Raises:
        StorageError: The file is damaged, too large, or holds anything but such rows.
    """
    rows: dict[str, dict[str, Tensor]] = {}
    path = folder / IMAGES_FILE
    if path.exists():
        for name, x in sorted(load_tensors(path, inside, LIMIT).items()):
            _, _, rest = name.partition("/")
            task, slash, caption = rest.partition("/")
            if not slash or not _is_row(x):
                raise StorageError(
                    f"{single_line(path)} holds {single_line(name)[:80]!r} of shape "
                    f"{tuple(x.shape)}",
                    f"number/task/caption with images [N, 1 or 3, H, W] up to {SIDE} pixels wide, "
                    "or points [N, 2]",
                )
            rows.setdefault(task, {})[caption] = x.float()
    return rows


def _is_row(x: Tensor) -> bool:
    if 0 in x.shape:
        return False
    if x.ndim == 2:
        return x.shape[1] == 2
    return x.ndim == 4 and x.shape[1] in (1, 3) and max(x.shape[2:]) <= SIDE
