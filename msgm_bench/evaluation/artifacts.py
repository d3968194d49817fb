"""Draw a task's artifact in chunks that survive a kill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from msgm_bench.api import ModelContext, Task
from msgm_bench.api.progress import ProgressCallback
from msgm_bench.errors import PluginError, StorageError
from msgm_bench.storage.tensors import load_tensors, save_tensors

ARTIFACT = "artifact.safetensors"


def draw_artifact(
    task: Task, context: ModelContext, folder: Path, report: ProgressCallback
) -> None:
    """Draw ``task.total`` items, one file a chunk, and join them into one artifact.

    A chunk that an earlier attempt finished is read and not drawn again.

    Raises:
        PluginError: The task draws tensors of another length than the chunk's.
    """
    total, size = task.total(context), task.options.batch_size
    parts = []
    for start in range(0, total, size):
        path = folder / f"chunk-{start:08d}.safetensors"
        count = min(size, total - start)
        part = _finished_chunk(path)
        if part is None:
            part = _check_chunk(task, task.draw(context, start, count), count)
            save_tensors(path, part)
        parts.append(part)
        report(start + count, total, {})
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    save_tensors(folder / ARTIFACT, whole)
    for path in folder.glob("chunk-*.safetensors"):
        path.unlink()


def _check_chunk(task: Task, chunk: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """The chunk on the CPU; an error if a tensor has another first dimension than ``count``."""
    for name, tensor in chunk.items():
        if tensor.ndim == 0 or len(tensor) != count:
            raise PluginError(
                f"task {task.name!r} drew {name!r} of shape {tuple(tensor.shape)}",
                f"a first dimension of {count}",
            )
    return {name: tensor.detach().cpu().contiguous() for name, tensor in chunk.items()}


def _finished_chunk(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a chunk; None where there is none, or a damaged one, which is deleted."""
    if not path.exists():
        return None
    try:
        return load_tensors(path)
    except StorageError:
        path.unlink()
        return None
