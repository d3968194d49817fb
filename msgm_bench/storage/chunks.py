"""Work in chunks that survive a kill, each a file of tensors until all are joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from msgm_bench.errors import StorageError
from msgm_bench.ranks import current as current_ranks
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
    again. Processes that work together take turns with chunks that are smaller by their number,
    and the first one joins all.

    Args:
        folder: Where chunks are, and the joined file will be.
        name: Name of the joined file.
        total: Number of items.
        size: Items of a chunk.
        compute: The tensors of ``count`` items from ``start`` on.
        report: Receives the number of finished items.
    """
    ranks, paths = current_ranks(), []
    size = -(-size // ranks.count)
    for i, start in enumerate(range(0, total, size)):
        path, count = folder / f"chunk-{start:08d}.safetensors", min(size, total - start)
        paths.append(path)
        if i % ranks.count == ranks.rank:
            if not _is_finished(path, count):
                save_tensors(path, compute(start, count))
            report(start + count)
    ranks.barrier()
    if ranks.rank == 0:
        concatenate_files(folder / name, paths)
        for path in folder.glob(PATTERN):
            path.unlink()


def _is_finished(path: Path, count: int) -> bool:
    """Whether a chunk of ``count`` items is there and whole; any other is deleted."""
    if not path.exists():
        return False
    try:
        if all(len(tensor) == count for tensor in load_tensors(path).values()):
            return True
    except StorageError:
        pass
    path.unlink()
    return False
