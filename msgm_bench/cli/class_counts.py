"""Classes with their numbers of items, on one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MAX_CLASSES = 12


def class_counts(counts: Mapping[str, Sequence[int]]) -> str:
    """``cat 8 + 2; dog 12 + 3``: items to train on + held out; a name alone without numbers."""
    parts = [
        " ".join([name, *([" + ".join(f"{n:,}" for n in numbers)] if numbers else [])])
        for name, numbers in counts.items()
    ]
    more = f"; and {len(parts) - MAX_CLASSES} more" if len(parts) > MAX_CLASSES else ""
    return "; ".join(parts[:MAX_CLASSES]) + more
