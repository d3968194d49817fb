"""Names of classes with their numbers of items, for a person to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SHOWN = 12


def class_counts(counts: Mapping[str, Sequence[int]]) -> str:
    """``cat 8 + 2; dog 12 + 3``: to train on and held out; names alone where nothing is counted."""
    parts = [
        " ".join([name, *([" + ".join(f"{n:,}" for n in numbers)] if numbers else [])])
        for name, numbers in counts.items()
    ]
    more = f"; and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
    return "; ".join(parts[:SHOWN]) + more
