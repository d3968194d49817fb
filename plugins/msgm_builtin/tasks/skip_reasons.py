"""Reasons to skip a task on a model of the other track."""

from __future__ import annotations

from msgm_bench import Model


def skip_conditional(task: str, model: Model) -> str | None:
    """Reason to skip ``task`` on a class-conditional model, or None for an unconditional one."""
    if model.conditioning is None:
        return None
    return f"{task} belongs to the unconditional track, and the model is class-conditional"


def skip_unconditional(task: str, model: Model) -> str | None:
    """Reason to skip ``task`` on an unconditional model, or None for a class-conditional one."""
    if model.conditioning is not None:
        return None
    return f"{task} belongs to the conditional track, and the model is unconditional"
