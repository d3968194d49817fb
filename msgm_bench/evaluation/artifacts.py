"""Draw a task's artifact in chunks that survive a kill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from msgm_bench.api import ModelContext, Task
from msgm_bench.api.progress import ProgressCallback
from msgm_bench.errors import PluginError
from msgm_bench.storage.chunks import compute_in_chunks

ARTIFACT = "artifact.safetensors"


def draw_artifact(
    task: Task, context: ModelContext, folder: Path, report: ProgressCallback
) -> None:
    """Draw ``task.total`` items in chunks, and join them into one artifact.

    Raises:
        PluginError: The task draws tensors of another length than the chunk's.
    """
    total = task.total(context)

    def draw(start: int, count: int) -> Mapping[str, Tensor]:
        return _check_chunk(task, task.draw(context, start, count), count)

    def on_chunk(done: int) -> None:
        report(done, total, {})

    compute_in_chunks(folder, ARTIFACT, total, task.options.batch_size, draw, on_chunk)


def _check_chunk(task: Task, chunk: Mapping[str, Tensor], count: int) -> Mapping[str, Tensor]:
    """The chunk; an error if a tensor has another first dimension than ``count``."""
    for name, tensor in chunk.items():
        if tensor.ndim == 0 or len(tensor) != count:
            raise PluginError(
                f"task {task.name!r} drew {name!r} of shape {tuple(tensor.shape)}",
                f"a first dimension of {count}",
            )
    return chunk
