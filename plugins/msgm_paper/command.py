"""``msgm-bench paper``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from msgm_paper.assessment import Assessment
    from msgm_paper.results import Collected, Measurement

RUNS = "runs"
ALL = "all"  # of the findings


@click.group()
def command() -> None:
    """Show published tables beside measured values."""


@command.command()
@click.option("--table", "tables", multiple=True, type=int, help="Number of a table; may repeat.")
@click.option(
    "--runs",
    "folders",
    multiple=True,
    type=click.Path(),
    help="Folder of runs or of a board.  [the results in the program, and runs]",
)
@click.option("--commands", "as_commands", is_flag=True, help="Print the commands of missing runs.")
@click.option(
    "--findings",
    "finding",
    is_flag=False,
    flag_value=ALL,
    metavar="[NAME]",
    help="Compute the paper's errors, or that of one name.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def msgm(
    tables: tuple[int, ...],
    folders: tuple[str, ...],
    as_commands: bool,
    finding: str | None,
    as_json: bool,
) -> None:
    """Show the tables of the MSGM paper (arXiv:2412.07229) beside measured values.

    A value is reproduced by runs of the preset `paper` whose whole 95 % interval lies within the
    metric's margin around the published value: a wide interval reproduces nothing. It differs
    where the interval lies wholly outside, and is not comparable where the paper's number or the
    run is of another kind; the notes give the reasons.

    `--findings` lists the errors of the paper instead, and shows each by a computation of its
    own; all take less than a minute.
    """
    if finding is not None:
        if tables or folders or as_commands:
            raise click.UsageError("--findings stands alone, or with --json")
        _print_findings(finding, as_json)
        return
    if as_commands and as_json:
        raise click.UsageError("--json contains the commands: leave out --commands")
    from msgm_paper.assessment import assess
    from msgm_paper.tables import published_values

    numbers = sorted({entry.table for entry in published_values()})
    chosen = _check_tables(tables, numbers) or numbers
    results = _collect(folders).results
    assessments = [
        assess(c, results, published_values()) for c in published_values() if c.table in chosen
    ]
    out = folders[0] if folders else RUNS
    if as_json:
        click.echo(json.dumps([_document(assessment, out) for assessment in assessments], indent=2))
    elif as_commands:
        for line in missing_commands(assessments, out):
            click.echo(line)
        for line in impossible_targets(assessments):
            click.echo(f"# {line}")
    else:
        from msgm_paper.view import show

        show(assessments)


def _print_findings(name: str, as_json: bool) -> None:
    """Compute and print findings; with all of them the errors that nothing here can compute."""
    from msgm_paper.caveats import read_errors
    from msgm_paper.findings import find

    findings = find(name)
    others = read_errors() if name == ALL else ()
    if as_json:
        read = [{"where": where, "reason": reason} for where, reason in others]
        document = {"computed": [asdict(finding) for finding in findings], "read": read}
        click.echo(json.dumps(document, indent=2, allow_nan=False))
        return
    from msgm_paper.findings.view import show

    show(findings, others)


def _check_tables(tables: Sequence[int], numbers: Sequence[int]) -> Sequence[int]:
    """``tables``, if the paper has them all.

    Raises:
        UsageError: The paper lacks one of them.
    """
    from msgm_bench import UsageError

    for table in tables:
        if table not in numbers:
            raise UsageError(f"the paper has no table {table}", ", ".join(map(str, numbers)))
    return tables


def _collect(folders: Sequence[str]) -> Collected:
    """Results of ``folders``; without any, those in the program and in the default folder."""
    from pathlib import Path

    from msgm_paper.results import SHIPPED, collect

    defaults = [folder for folder in (str(SHIPPED), RUNS) if Path(folder).exists()]
    collected = collect(folders or defaults)
    for path, reason in collected.broken.items():
        click.echo(f"skipped: {path} is no valid result: {reason}", err=True)
    return collected


def missing_commands(assessments: Sequence[Assessment], out: str) -> list[str]:
    """The command of each run that would decide on a value."""
    lines = (assessment.setting.command(out) for assessment in assessments if assessment.runnable)
    return list(dict.fromkeys(line for line in lines if line))


def impossible_targets(assessments: Sequence[Assessment]) -> list[str]:
    """Values that no run can reproduce: a line for each reason."""
    from msgm_paper.caveats import objections

    places: dict[tuple[str, ...], list[str]] = {}
    for assessment in assessments:
        if flaws := objections(assessment.entry):
            places.setdefault(flaws, []).append(assessment.entry.place)
    return [f"{'; '.join(flaws)}: {'; '.join(dict.fromkeys(p))}" for flaws, p in places.items()]


def _document(assessment: Assessment, out: str) -> dict[str, Any]:
    """An assessment, ready for JSON."""
    return {
        **asdict(assessment.entry),
        "status": assessment.status,
        "measured": _values(assessment.measured),
        "reasons": assessment.reasons,
        "remarks": assessment.remarks,
        "command": assessment.setting.command(out) if assessment.runnable else None,
    }


def _values(measured: Measurement | None) -> dict[str, Any] | None:
    if measured is None:
        return None
    interval = measured.interval
    value, ends = (None, (None, None)) if interval is None else (interval.value, interval.ends)
    numbers = {"value": value, "low": ends[0], "high": ends[1], "n": measured.n}
    return numbers | {"seeds": measured.seeds, "preset": measured.preset}
