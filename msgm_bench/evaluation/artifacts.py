"""Draw a task's artifact in chunks that survive a kill."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from msgm_bench.api import ModelContext, Task
from msgm_bench.errors import PluginError, StorageError
from msgm_bench.storage.tensors import load_tensors, save_tensors

ARTIFACT = "artifact.safetensors"
OnChunk = Callable[[int, int, Mapping[str, float]], None]


def draw_artifact(task: Task, context: ModelContext, folder: Path, on_chunk: OnChunk) -> None:
    """Draw ``task.total`` items, one file a chunk, and join them into one artifact.

    A chunk that an earlier attempt finished is read and not drawn again.
    """
    total, size = task.total(context), task.options.batch_size
    parts = []
    for start in range(0, total, size):
        path = folder / f"chunk-{start:08d}.safetensors"
        count = min(size, total - start)
        part = _read(path)
        if part is None:
            part = _checked(task, task.draw(context, start, count), count)
            save_tensors(path, part)
        parts.append(part)
        on_chunk(start + count, total, {})
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    save_tensors(folder / ARTIFACT, whole)
    for path in folder.glob("chunk-*.safetensors"):
        path.unlink()


def _checked(task: Task, drawn: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    for name, tensor in drawn.items():
        if tensor.ndim == 0 or len(tensor) != count:
            raise PluginError(
                f"task {task.name!r} drew {name!r} of shape {tuple(tensor.shape)}",
                f"a first dimension of {count}",
            )
    return {name: tensor.detach().cpu().contiguous() for name, tensor in drawn.items()}


def _read(path: Path) -> dict[str, Tensor] | None:
    if not path.exists():
        return None
    try:
        return load_tensors(path)
    except StorageError:
        path.unlink()
        return None
