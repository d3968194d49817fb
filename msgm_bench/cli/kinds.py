"""Kinds of plugins as a user types them."""

from __future__ import annotations

from msgm_bench.errors import UnknownNameError

KINDS = (
    "dataset",
    "backbone",
    "method",
    "task",
    "metric",
    "judge",
    "embedder",
    "sampler",
    "executor",
    "tracker",
)


def singular(kind: str, allowed: tuple[str, ...] = KINDS) -> str:
    """The kind in the singular, from the singular or the plural.

    Raises:
        UnknownNameError: There is no such kind; suggests the nearest one.
    """
    lower = kind.lower()
    name = lower if lower in allowed else lower.removesuffix("s")
    if name not in allowed:
        raise UnknownNameError("kind", kind, allowed)
    return name
