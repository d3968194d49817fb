"""Findings in a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from msgm_paper.findings.finding import Finding, Number
from msgm_paper.tables import SOURCE
from msgm_paper.view import number

LABEL = 9  # letters of the left column


def show(findings: Sequence[Finding], others: Sequence[tuple[str, str]]) -> None:
    """Print each finding with its numbers, then errors that were read: place and reason."""
    console = Console(highlight=False)
    for finding in findings:
        console.print(Text(f"{finding.name}: {finding.where}"), style="bold")
        console.print(_facts([("claim", finding.claim), ("computed", finding.computed)]))
        console.print(_numbers(finding.numbers))
        console.print(_facts([("verdict", finding.verdict)]), "")
    if others:
        console.print(f"Read in {SOURCE} or its released code, and not computed", style="bold")
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=20)
        for where, reason in others:
            grid.add_row(Text(where), Text(reason))
        console.print(Padding(grid, (0, 0, 0, 2)))


def _facts(lines: Sequence[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=LABEL + 1)
    for label, text in lines:
        grid.add_row(Text(f"  {label}"), Text(text))
    return grid


def _numbers(numbers: Sequence[Number]) -> Table:
    table = Table(box=box.SIMPLE, padding=(0, 1), show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right")
    table.add_column()
    table.add_column()
    for entry in numbers:
        ends = (
            ""
            if entry.low is None or entry.high is None
            else f"{number(entry.low, entry.digits)} to {number(entry.high, entry.digits)}"
        )
        value = number(entry.value, entry.digits)
        table.add_row(Text(entry.what), value, entry.unit, ends)
    return table
