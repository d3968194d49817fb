"""Work in chunks that survive a kill, each a file of tensors until all are joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from msgm_bench.errors import StorageError
from msgm_bench.storage.concatenation import concatenate_files
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

    Memory holds one chunk at a time. A chunk that an earlier attempt finished is not computed
    again.

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
        if not _is_finished(path):
            save_tensors(path, compute(start, count))
        parts.append(path)
        report(start + count)
    concatenate_files(folder / name, parts)
    for path in folder.glob(PATTERN):
        path.unlink()


def _is_finished(path: Path) -> bool:
    """Whether a chunk is there and whole; a damaged one is deleted."""
    if not path.exists():
        return False
    try:
        load_tensors(path)
    except StorageError:
        path.unlink()
        return False
    return True
