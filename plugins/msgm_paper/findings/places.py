"""Published numbers by their place."""

from __future__ import annotations

from msgm_paper.tables import PublishedValue, published_values


def values_at(**fields: object) -> list[PublishedValue]:
    """The published values with these fields, in the order of the tables."""
    return [
        entry
        for entry in published_values()
        if all(getattr(entry, name) == value for name, value in fields.items())
    ]


def value_at(table: int, method: str, metric: str, split: str) -> float:
    """The one published value of a table, method, metric and split."""
    (entry,) = values_at(table=table, method=method, metric=metric, split=split)
    return entry.value
