"""Which models belong to which track."""

from __future__ import annotations

from msgm_bench import Model


def unconditional_only(task: str, model: Model) -> str | None:
    """Why ``task`` says nothing of a class-conditional model, or None where it is not one."""
    if model.classes is None:
        return None
    return f"{task} belongs to the unconditional track, and the model is told a class"
