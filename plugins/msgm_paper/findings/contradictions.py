"""Two numbers of the paper for one measurement."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from msgm_paper.findings.finding import Finding, Number
from msgm_paper.mapping import Quantity, Setting, quantity, setting
from msgm_paper.tables import PublishedValue, published_values

NAME = "contradictions"
Values = tuple[PublishedValue, PublishedValue]


def find() -> Finding:
    """Measurements that stand twice, and differ."""
    pairs = [*repeated()]
    differing = [pair for pair in pairs if pair[0].value != pair[1].value]
    copies = {setting(a) for a, b in pairs if a.value == b.value and (a.table, b.table) == (2, 6)}
    models = sorted({setting(a).method for a, _ in differing if setting(a) in copies})
    return Finding(
        NAME,
        "tables 2, 5, 6 and 7",
        "One dataset, backbone, method and metric has one number.",
        "Published values of one measurement in two tables, baselines of the tables of "
        "fine-tuning included, which are retrained.",
        tuple(
            Number(f"{_label(a)}: {a.value:g} in table {a.table}, in {b.table}", b.value, a.unit)
            for a, b in differing
        ),
        f"{len(differing)} of {len(pairs)} measurements that stand twice have two values. Of "
        f"{' and '.join(models)} table 6 repeats the ratios of table 2 to the digit, while table "
        "5 has other likelihoods: two models, or one number too many.",
    )


def _label(entry: PublishedValue) -> str:
    return f"{entry.dataset} {entry.method}, {entry.metric} {entry.split}"


def repeated() -> Iterator[Values]:
    """Pairs of published values of one run and row, in the order of the tables."""
    groups: dict[tuple[Setting, Quantity], list[PublishedValue]] = {}
    for entry in published_values():
        groups.setdefault((setting(entry), quantity(entry)), []).append(entry)
    for entries in groups.values():
        yield from itertools.combinations(entries, 2)
