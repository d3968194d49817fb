"""Held-out items in the order in which tasks take them: those of D_g, then those of D_f."""

from __future__ import annotations

import torch

from msgm_bench import CountOptions, Examples, ModelContext, PluginError, Task


def sizes(context: ModelContext, count: int) -> tuple[int, int]:
    """Items of D_g and of D_f, at most ``count`` each."""
    return min(count, len(context.retain)), min(count, len(context.forget))


def drawn_sizes(context: ModelContext, task: Task) -> tuple[int, int]:
    """Items of D_g and of D_f in the artifact of ``task``, the ones of D_g first.

    Raises:
        PluginError: The task does not count items of each split.
    """
    if not isinstance(task.options, CountOptions):
        raise PluginError(f"task {task.name!r} does not say its count", "Task[CountOptions]")
    return sizes(context, task.options.count)


def items(context: ModelContext, count: int) -> Examples:
    """The items themselves, as the dataset holds them."""
    sized = zip((context.retain, context.forget), sizes(context, count), strict=True)
    parts = [part[:size] for part, size in sized]
    return Examples(torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts]))
