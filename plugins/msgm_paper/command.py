"""``msgm-bench paper``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from msgm_paper.results import Found, Measured
    from msgm_paper.verdict import Verdict

RUNS = "runs"


@click.group()
def command() -> None:
    """Put published tables beside what is measured."""


@command.command()
@click.option("--table", "tables", multiple=True, type=int, help="Number of a table; may repeat.")
@click.option(
    "--runs",
    "folders",
    multiple=True,
    type=click.Path(),
    help="Folder of runs, or a board's.  [those that ship with the program, and runs]",
)
@click.option("--commands", "as_commands", is_flag=True, help="Print the runs that are missing.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def msgm(
    tables: tuple[int, ...], folders: tuple[str, ...], as_commands: bool, as_json: bool
) -> None:
    """Show the tables of the MSGM paper (arXiv:2412.07229), each published value with ours.

    A value is reproduced only by runs of the preset `paper` whose whole 95 % interval lies within
    the margin of its metric around the published one: a wide interval reproduces nothing. It
    differs where the interval lies wholly outside, and is not comparable where the paper's number
    or the run is of another kind; the notes say why.
    """
    if as_commands and as_json:
        raise click.UsageError("--json holds the commands, too: leave out --commands")
    from msgm_paper.tables import cells
    from msgm_paper.verdict import verdict

    known = sorted({cell.table for cell in cells()})
    chosen = [cell for cell in cells() if cell.table in (_known(tables, known) or known)]
    found = _gather(folders)
    verdicts = [verdict(cell, found.results, cells()) for cell in chosen]
    out = folders[0] if folders else RUNS
    if as_json:
        click.echo(json.dumps([_document(one, out) for one in verdicts], indent=2))
    elif as_commands:
        for line in commands(verdicts, out):
            click.echo(line)
        for line in beyond(verdicts):
            click.echo(f"# {line}")
    else:
        from msgm_paper.view import show

        show(verdicts)


def _known(tables: Sequence[int], known: Sequence[int]) -> Sequence[int]:
    """``tables``.

    Raises:
        UsageError: The paper lacks one of them.
    """
    from msgm_bench import UsageError

    for table in tables:
        if table not in known:
            raise UsageError(f"the paper has no table {table}", ", ".join(map(str, known)))
    return tables


def _gather(folders: Sequence[str]) -> Found:
    """Results of ``folders``; else those that ship with the program, and of the default folder."""
    from pathlib import Path

    from msgm_paper.results import SHIPPED, gather

    usual = [folder for folder in (str(SHIPPED), RUNS) if Path(folder).exists()]
    found = gather(folders or usual)
    for path, reason in found.broken.items():
        click.echo(f"left out: {path} is no valid result: {reason}", err=True)
    return found


def commands(verdicts: Sequence[Verdict], out: str) -> list[str]:
    """One command for each run that would tell more of any value."""
    lines = (one.setting.command(out) for one in verdicts if one.runnable)
    return list(dict.fromkeys(line for line in lines if line))


def beyond(verdicts: Sequence[Verdict]) -> list[str]:
    """The values that no run can reproduce, and why: one line for each reason."""
    from msgm_paper.caveats import objections

    places: dict[tuple[str, ...], list[str]] = {}
    for one in verdicts:
        if flaws := objections(one.cell):
            places.setdefault(flaws, []).append(one.cell.place)
    return [f"{'; '.join(flaws)}: {'; '.join(dict.fromkeys(p))}" for flaws, p in places.items()]


def _document(one: Verdict, out: str) -> dict[str, Any]:
    """A verdict, ready for JSON."""
    return {
        **asdict(one.cell),
        "status": one.status,
        "measured": _values(one.measured),
        "reasons": one.reasons,
        "remarks": one.remarks,
        "command": one.setting.command(out) if one.runnable else None,
    }


def _values(measured: Measured | None) -> dict[str, Any] | None:
    if measured is None:
        return None
    interval = measured.interval
    value, ends = (None, (None, None)) if interval is None else (interval.value, interval.ends)
    numbers = {"value": value, "low": ends[0], "high": ends[1], "n": measured.n}
    return numbers | {"seeds": measured.seeds, "preset": measured.preset}
