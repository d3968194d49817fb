"""Held-out items in the order in which tasks take them: those of D_g, then those of D_f."""

from __future__ import annotations

import torch

from msgm_bench import CountOptions, Examples, PluginError, Subject, Task


def sizes(subject: Subject, count: int) -> tuple[int, int]:
    """Items of D_g and of D_f, at most ``count`` each."""
    return min(count, len(subject.retain)), min(count, len(subject.forget))


def drawn_sizes(subject: Subject, task: Task) -> tuple[int, int]:
    """Items of D_g and of D_f in the artifact of ``task``, the ones of D_g first.

    Raises:
        PluginError: The task does not count items of each split.
    """
    if not isinstance(task.options, CountOptions):
        raise PluginError(f"task {task.name!r} does not say its count", "Task[CountOptions]")
    return sizes(subject, task.options.count)


def items(subject: Subject, count: int) -> Examples:
    """The items themselves, as the dataset holds them."""
    sized = zip((subject.retain, subject.forget), sizes(subject, count), strict=True)
    parts = [part[:size] for part, size in sized]
    return Examples(torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts]))
