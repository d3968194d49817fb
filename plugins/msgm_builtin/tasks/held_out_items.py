"""Held-out items in the order in which tasks read them: first those of D_g, then those of D_f."""

from __future__ import annotations

import torch

from msgm_bench import CountOptions, Examples, ModelContext, PluginError, Task


def split_sizes(context: ModelContext, count: int) -> tuple[int, int]:
    """Numbers of items of D_g and of D_f, at most ``count`` each."""
    return min(count, len(context.retain)), min(count, len(context.forget))


def artifact_sizes(context: ModelContext, task: Task) -> tuple[int, int]:
    """Numbers of items of D_g and of D_f in the artifact of ``task``, those of D_g first.

    Raises:
        PluginError: The task has no option for the number of items of a split.
    """
    if not isinstance(task.options, CountOptions):
        raise PluginError(f"task {task.name!r} has no option count", "Task[CountOptions]")
    return split_sizes(context, task.options.count)


def items(context: ModelContext, count: int) -> Examples:
    """The items of both splits, at most ``count`` each, as the dataset holds them."""
    n_retain, n_forget = split_sizes(context, count)
    retain, forget = context.retain[:n_retain], context.forget[:n_forget]
    c = None if retain.c is None or forget.c is None else torch.cat([retain.c, forget.c])
    return Examples(torch.cat([retain.x, forget.x]), torch.cat([retain.y, forget.y]), c)
