"""``msgm-bench diff``."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from msgm_bench.cli.explain import run_text, value_texts
from msgm_bench.cli.terminal import echo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msgm_bench.explanation import Divergence, ResultComparison, ValuePair

VALUE = 200  # letters of a value in a line


@click.command()
@click.argument("first", metavar="RUN", type=click.Path(exists=True))
@click.argument("second", metavar="RUN", type=click.Path(exists=True))
def command(first: str, second: str) -> None:
    """Name what two results differ in, first what can change a value.

    Each RUN is a run folder, a result.json, a file of a board's results or an archive of
    `msgm-bench submit`. Protocols, judge, data, options, base model, seeds, code, versions and
    hardware come first, then cost and origin, which change nothing, then the values. Exits with 0
    whether they differ or not; `msgm-bench protocol diff` exits with 1 where protocols do.
    """
    from msgm_bench.explanation import compare_results, read_source
    from msgm_bench.storage import single_line

    sources = [read_source(Path(path)) for path in (first, second)]
    for letter, source in zip("AB", sources, strict=True):
        echo(single_line(f"{letter}  {source.name}: {run_text(source.result)}"))
    comparison = compare_results(*(source.result for source in sources))
    _print_divergences("Can change a value", comparison.decisive)
    _print_stages(comparison)
    _print_divergences("Cannot change a value", comparison.harmless)
    _print_values(comparison.values)


def _print_divergences(title: str, divergences: Sequence[Divergence]) -> None:
    """Print divergences by their groups."""
    from msgm_bench.cli.tables import print_grid

    echo(f"\n{title}: {'' if divergences else 'nothing differs'}".rstrip())
    for group, parts in groupby(divergences, key=lambda part: part.group):
        echo(f"  {group}")
        lines = [(part.name, f"{_value(part.a)} against {_value(part.b)}") for part in parts]
        print_grid(lines, indent=4, width=20)


def _value(value: Any) -> str:
    """A value in a line; of a hash its beginning."""
    from msgm_bench.errors import shorten
    from msgm_bench.explanation.step import HASH, value_text
    from msgm_bench.storage import single_line

    text = single_line(value_text(value))
    is_hash = len(text) in (40, 64) and not set(text) - set("0123456789abcdef")
    return text[:HASH] if is_hash else shorten(text, VALUE)


def _print_stages(comparison: ResultComparison) -> None:
    """Print which stages both results have in common."""
    from msgm_bench.storage import single_line

    echo()
    if comparison.shared_stages:
        echo(single_line(f"One computation for both: {', '.join(comparison.shared_stages)}"))
    if comparison.own_stages:
        echo(single_line(f"Computed for each: {', '.join(comparison.own_stages)}"))


def _print_values(pairs: Sequence[ValuePair]) -> None:
    """Print values that are not equal, and the number of those that are."""
    from msgm_bench.cli.row_labels import RowLabels, print_missing
    from msgm_bench.cli.tables import print_table
    from msgm_bench.explanation import Outcome

    labels = RowLabels(pair.row for pair in pairs)
    others = [pair for pair in pairs if pair.outcome is not Outcome.EQUAL]
    lines = [
        (
            f"{pair.row.task}\n{labels.value(pair.row)}",
            *("\n".join(value_texts(row)) for row in (pair.a, pair.b)),
            "" if pair.difference is None else f"{pair.difference:+.3g}",
            pair.outcome,
        )
        for pair in others
    ]
    echo()
    if lines:
        print_table(("value", "A", "B", "B - A", ""), lines, "Values")
    print_missing((labels.whole(pair.row), text) for pair in others for text in _reasons(pair))
    echo(f"{len(pairs) - len(others)} of {len(pairs)} values are equal to the last digit.")
    if any(pair.outcome in (Outcome.WITHIN_NOISE, Outcome.DIFFERS) for pair in others):
        echo(
            "Within noise: |B - A| is at most sqrt(h² + k²), half-widths of 95 % intervals\n"
            "over items. Other training seeds add noise of their own."
        )


def _reasons(pair: ValuePair) -> list[str]:
    """Why either result has no value, or both for one reason."""
    sides = {"A": pair.a, "B": pair.b}
    missing = {k: row.reason for k, row in sides.items() if row is not None and row.value is None}
    if len(missing) == 2 and len(set(missing.values())) == 1:
        return [f"A and B: {missing['A']}"]
    return [f"{letter}: {reason}" for letter, reason in missing.items()]
