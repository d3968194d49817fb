"""``msgm-bench sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from msgm_bench.cli.options import RUN_FOLDER, data_dir_option
from msgm_bench.cli.terminal import echo
from msgm_bench.errors import UsageError, shorten

if TYPE_CHECKING:
    from msgm_bench.api import Row
    from msgm_bench.sweep import Sweep


@click.group()
def command() -> None:
    """Measure quality over a setting of the evaluation."""


@command.command()
@click.argument("run", type=RUN_FOLDER)
@click.option(
    "--samplers", metavar="NAMES", help="Samplers, as a list (deis,sa); else the backbone's."
)
@click.option(
    "--nfe",
    "budgets",
    metavar="NUMBERS",
    help="Network evaluations a sample, as a list; 8,12,16,24,32,50,100 by default.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Folder of the files, such as a board's; RUN by default.",
)
@click.option(
    "--samples",
    type=click.IntRange(1),
    metavar="N",
    help="Largest size of evaluation sets; as in the run by default.",
)
@data_dir_option
@click.option("--device", metavar="NAME", default="auto", show_default=True, help="As of `run`.")
@click.option("--json", "as_json", is_flag=True, help="Print the values as JSON.")
def nfe(
    run: str,
    samplers: str | None,
    budgets: str | None,
    out: str | None,
    samples: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Draw from the model of RUN with several samplers and budgets, and plot the quality.

    Writes sweep.json and sweep.svg. What was drawn before comes from the cache. In the folder of
    a board both belong to its page: run `board build` afterwards.
    """
    from msgm_bench.cli.progress import show_progress
    from msgm_bench.quarantine import stdout_to_stderr
    from msgm_bench.runner import output_folder
    from msgm_bench.storage import write_text
    from msgm_bench.sweep import SWEEP_FILE, SWEEP_PLOT, sweep_figure
    from msgm_bench.sweep.nfe import BUDGETS, sweep_nfe

    names = _listed(samplers)
    numbers = [_budget(text) for text in _listed(budgets)] or list(BUDGETS)
    folder = output_folder(run if out is None else out)

    def announce(sampler: str, budget: int, i: int, count: int) -> None:
        echo(f"[{i}/{count}] {sampler}, {budget} evaluations", err=True)

    with stdout_to_stderr(), show_progress(1):
        sweep = sweep_nfe(Path(run), names, numbers, device, samples, announce)
    write_text(folder / SWEEP_FILE, sweep.to_json())
    write_text(folder / SWEEP_PLOT, sweep_figure(sweep))
    if as_json:
        echo(sweep.to_json().rstrip("\n"))
    else:
        _print(sweep)
    for name in (SWEEP_FILE, SWEEP_PLOT):
        echo(f"written: {folder / name}", err=as_json)


def _listed(text: str | None) -> list[str]:
    """The entries of a comma-separated list."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _budget(text: str) -> int:
    """A number of evaluations.

    Raises:
        UsageError: It is none.
    """
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 10**6:
        raise UsageError(f"--nfe has {shorten(text)!r}", "numbers from 1 to 1000000")
    return int(text)


def _cell(row: Row | None) -> str:
    """Value and interval of a row; a dash where there is none."""
    if row is None or row.value is None:
        return "–"
    ends = ["" if end is None else f"{end:.4g}" for end in (row.low, row.high)]
    return f"{row.value:.4g}" + (f" [{', '.join(ends)}]" if any(ends) else "")


def _print(sweep: Sweep) -> None:
    """Print the values with their intervals, a line a point."""
    from msgm_bench.cli.tables import print_table

    lines = []
    for point in sweep.points:
        values = (_cell(point.row(column)) for column in sweep.columns)
        lines.append([point.sampler, f"{point.evaluations:g}", *values])
    names = ["sampler", "evaluations", *(column.label for column in sweep.columns)]
    print_table(names, lines)
