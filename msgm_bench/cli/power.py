"""``msgm-bench board power``."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from msgm_bench.cli.options import FolderType
from msgm_bench.cli.terminal import echo

if TYPE_CHECKING:
    from msgm_bench.boards.power import PairedSpread
    from msgm_bench.boards.separation import Separation, Separations

NONE = "–"
HEADINGS = ("methods", "difference", "sd", "items", "detectable", "seeds", "samples")


def quantity_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that name a quantity of results: ``metric``, ``split``, ``protocol``."""
    for option in (
        click.option("--protocol", metavar="NAME@N", help="Protocol, if there are several."),
        click.option("--split", metavar="NAME", help="Split, if there are several."),
        click.option("--metric", metavar="NAME", help="Metric; what ranks by default."),
    ):
        function = option(function)
    return function


@click.command()
@click.argument("folder", type=FolderType("a folder with board.yaml"), metavar="BOARD")
@quantity_options
@click.option("--against", metavar="METHOD", help="Compare all others with METHOD.")
def power(
    folder: str, metric: str | None, split: str | None, protocol: str | None, against: str | None
) -> None:
    """Say how many seeds and samples tell two methods of a board apart.

    From the stored results, for each pair of neighbours in the ranking: what would show their
    difference in 80 % of all repetitions, by the paired t test at 5 %.
    """
    from msgm_bench.boards import collect, load
    from msgm_bench.boards.separation import find_quantity, separations
    from msgm_bench.quarantine import stdout_to_stderr

    place = Path(folder)
    with stdout_to_stderr():
        quantity = None
        if metric is not None:
            board = load(place)
            results = collect(board, place).results
            quantity = find_quantity(board.quantities, results, metric, split, protocol)
        chosen = separations(place, quantity, against)
    _print(chosen)


def _print(chosen: Separations) -> None:
    """Print a line a pair, and how to read it."""
    from msgm_bench.cli.tables import print_table

    unit = "" if chosen.unit == "1" else f" ({chosen.unit})"
    lines = [_line(pair) for pair in chosen.pairs]
    print_table(HEADINGS, lines, f"{chosen.label}{unit}")
    for note in _notes(chosen):
        echo(note)


def _line(pair: Separation) -> list[str]:
    """The cells of a pair."""
    methods = f"{pair.better}\n{'' if pair.is_separate else '= '}{pair.worse}"
    spread = pair.spread
    if spread is None:
        return [methods, *[NONE] * 6]
    share = _share(spread.item_share)
    values = (f"{number:.3g}" for number in (abs(spread.difference), spread.sd))
    return [methods, *values, share, f"{spread.detectable:.3g}", _seeds(spread), _samples(spread)]


def _share(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.0f} %"


def _seeds(spread: PairedSpread) -> str:
    from msgm_bench.boards.power import MOST_SEEDS

    if spread.difference == 0:
        return "never"
    needed = spread.seeds_needed
    return f"> {MOST_SEEDS:,}" if needed is None else str(needed)


def _samples(spread: PairedSpread) -> str:
    needed = spread.items_needed
    if needed is None:
        return NONE
    return "never" if math.isinf(needed) else f"{needed:,.0f}"


def _notes(chosen: Separations) -> list[str]:
    """What the columns mean, and how far to trust them."""
    from msgm_bench.boards.power import sd_factors

    spreads = [pair.spread for pair in chosen.pairs if pair.spread is not None]
    if not spreads:
        return ["No two methods have two seeds in common: seeds say nothing yet."]
    counts = sorted({spread.seeds for spread in spreads})
    items = sorted({spread.n for spread in spreads})
    have = f"{_span(counts)} seeds of {_span(items)} items"
    low, high = sd_factors(counts[0])
    notes = [
        "=           a tie: the seeds do not tell the two apart",
        "sd          of the paired differences over seeds",
        "items       the part of its variance that more samples reduce, at most",
        f"detectable  what {have} show, with a power of 80 %",
        "seeds       needed for the difference at the present samples",
        "samples     needed at the present seeds; never: the seeds vary too much",
        f"With {counts[0]} seeds the true sd is {low:.2g} to {high:.2g} times this one (95 %).",
    ]
    if not chosen.has_drawn_items:
        notes.append("Items of this split may be the same for all seeds: no word on their number.")
    return notes


def _span(numbers: list[int]) -> str:
    """``3``, or ``2 to 3``."""
    first, last = numbers[0], numbers[-1]
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"
