"""``msgm-bench variance``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from msgm_bench.cli.power import quantity_options
from msgm_bench.cli.terminal import echo

if TYPE_CHECKING:
    from msgm_bench.api import Result
    from msgm_bench.boards import Quantity
    from msgm_bench.boards.variance import Component, Decomposition

SEEDS = {"training": "train", "unlearning": "unlearn", "sampling": "sample"}
NOTES = {
    "training": "the base model and its weights",
    "unlearning": "the batches and the noise of the method",
    "training x unlearning": "what unlearning makes of one base and not of another",
    "sampling": "luck that all models of a sampling seed share",
    "items": "the rest: luck that differs from model to model",
}


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="RUNS...", type=click.Path(exists=True))
@quantity_options
def command(
    paths: tuple[str, ...], metric: str | None, split: str | None, protocol: str | None
) -> None:
    """Say which seeds make a value vary, and how much the items do.

    RUNS are run folders, folders of run folders, or result.json files: each training seed with
    each unlearning and each sampling seed, two at least of what is to be estimated.
    """
    from msgm_bench.boards.variance import decompositions
    from msgm_bench.cli.compare import successful_results
    from msgm_bench.quarantine import stdout_to_stderr

    with stdout_to_stderr():
        results = list(successful_results(paths).values())
        key = _quantity(results, metric, split, protocol)
        decomposed = decompositions(results, key)
    for entry in decomposed:
        _print(entry, key)
    for name, note in NOTES.items():
        if any(name == part.name for entry in decomposed for part in entry.components):
            echo(f"{name:<21}  {note}")
    if any("items" not in (part.name for part in entry.components) for entry in decomposed):
        echo("One sampling seed or one model: the luck of the items is in the other parts.")


def _quantity(
    results: list[Result], metric: str | None, split: str | None, protocol: str | None
) -> Quantity:
    """The quantity that the options name; what ranks the track by default.

    Raises:
        UsageError: There is none, or several fit.
    """
    from msgm_bench.boards.separation import find_quantity
    from msgm_bench.boards.track_columns import ranking_quantity
    from msgm_bench.errors import UsageError

    if metric is not None:
        return find_quantity((), results, metric, split, protocol)
    key = ranking_quantity(results, results[0].spec.track)
    if key is None:
        raise UsageError("no installed metric ranks these results", "--metric NAME")
    return key


def _print(entry: Decomposition, key: Quantity) -> None:
    """Print a line a part."""
    from msgm_bench.cli.tables import print_table

    unit = "" if entry.unit == "1" else f" ({entry.unit})"
    lines = [_line(part, entry) for part in entry.components]
    lines.append(["one run, all seeds new", "", "", f"{math.sqrt(entry.total):.3g}", ""])
    title = f"{entry.method}: {key.metric} on {key.split}{unit}, mean {entry.mean:.4g}"
    print_table(("part", "seeds", "df", "sd", "share"), lines, title)
    if math.isfinite(entry.items):
        echo(f"Intervals over items alone: sd {math.sqrt(entry.items):.3g}\n")


def _line(part: Component, entry: Decomposition) -> list[str]:
    """Name, seeds, degrees of freedom, sd and share of a part."""
    seeds = str(entry.levels[SEEDS[part.name]]) if part.name in SEEDS else ""
    sd = f"{math.sqrt(part.variance):.3g}"
    if part.estimate < 0:
        sd = "0 (estimate negative)"
    share = f"{100 * part.variance / entry.total:.0f} %" if entry.total else "–"
    return [part.name, seeds, str(part.df), sd, share]
