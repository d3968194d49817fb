"""Work in chunks that survive a kill, each a file of tensors until all are joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from msgm_bench.errors import StorageError
from msgm_bench.storage.tensors import load_tensors, save_tensors

PATTERN = "chunk-*.safetensors"


def compute_in_chunks(
    folder: Path,
    name: str,
    total: int,
    size: int,
    compute: Callable[[int, int], Mapping[str, Tensor]],
    report: Callable[[int], None],
) -> None:
    """Write ``folder/name``: the tensors of items 0 .. total-1, computed ``size`` at a time.

    A chunk that an earlier attempt finished is read and not computed again.

    Args:
        folder: Where chunks are, and the joined file will be.
        name: Name of the joined file.
        total: Number of items.
        size: Items of a chunk.
        compute: The tensors of ``count`` items from ``start`` on.
        report: Receives the number of finished items.
    """
    parts = []
    for start in range(0, total, size):
        path, count = folder / f"chunk-{start:08d}.safetensors", min(size, total - start)
        part = _finished_chunk(path)
        if part is None:
            tensors = compute(start, count)
            part = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
            save_tensors(path, part)
        parts.append(part)
        report(start + count)
    save_tensors(folder / name, {key: torch.cat([p[key] for p in parts]) for key in parts[0]})
    for path in folder.glob(PATTERN):
        path.unlink()


def _finished_chunk(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a chunk; None where there is none, or a damaged one, which is deleted."""
    if not path.exists():
        return None
    try:
        return load_tensors(path)
    except StorageError:
        path.unlink()
        return None
