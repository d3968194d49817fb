"""Assessments as tables that fit a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from msgm_bench import Interval
from msgm_paper.assessment import Assessment, Status
from msgm_paper.results import Measurement
from msgm_paper.tables import SOURCE, TITLES, PublishedValue

DASH = "–"
STYLES = {
    Status.REPRODUCED: "green",
    Status.DIFFERS: "red",
    Status.INCONCLUSIVE: "yellow",
    Status.NOT_COMPARABLE: "dim",
    Status.NOT_RUN: "dim",
}
UNITS = {"embedding distance": "distance", "1": ""}
COLUMNS: tuple[tuple[str, int, JustifyMethod], ...] = (  # heading, width, alignment
    ("quantity", 13, "left"),
    ("method", 10, "left"),
    ("paper", 5, "right"),
    ("measured", 14, "right"),
    ("n", 7, "right"),
    ("status", 14, "left"),
    ("notes", 6, "left"),
)


def show(assessments: Sequence[Assessment]) -> None:
    """Print each table of the paper with its notes, and the numbers of outcomes at the end."""
    console = Console(highlight=False)
    for number, part in groupby(assessments, key=lambda a: a.entry.table):
        console.print(f"Table {number} of {SOURCE}: {TITLES[number]}", style="bold")
        notes: list[str] = []
        for place, rows in groupby(part, key=_place):
            console.print()
            console.print(_table(place, list(rows), notes))
        console.print()
        if notes:
            console.print(_footnotes(notes), "")
    counts = {status: sum(a.status == status for a in assessments) for status in Status}
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    console.print(f"{len(assessments)} published values: {summary}.", style="bold")
    if any(assessment.runnable for assessment in assessments):
        console.print("--commands prints the missing runs.")


def _footnotes(notes: Sequence[str]) -> Table:
    table = Table.grid(padding=(0, 1))
    for i, note in enumerate(notes, 1):
        table.add_row(Text(f"{i:>3}"), Text(note))
    return table


def _place(assessment: Assessment) -> str:
    entry = assessment.entry
    return f"{entry.dataset}, {entry.backbone}, without {entry.forget.replace(',', ' and ')}"


def _table(title: str, assessments: Sequence[Assessment], notes: list[str]) -> Table:
    """The rows of one dataset and backbone, quantity by quantity."""
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=0
    )
    for heading, width, side in COLUMNS:
        table.add_column(heading, width=width, justify=side, overflow="fold")
    quantities = dict.fromkeys(_quantity(assessment.entry) for assessment in assessments)
    for label in quantities:
        rows = [assessment for assessment in assessments if _quantity(assessment.entry) == label]
        for i, assessment in enumerate(rows):
            table.add_row(*_row(label[i] if i < len(label) else "", assessment, notes))
        table.add_section()
    return table


def _quantity(entry: PublishedValue) -> tuple[str, str]:
    """Metric and split, and the unit."""
    split = "" if entry.split == "samples" else f" {entry.split}"
    return f"{entry.metric}{split}", UNITS.get(entry.unit, entry.unit)


def _row(label: str, assessment: Assessment, notes: list[str]) -> list[Text]:
    entry = assessment.entry
    marks = [_mark(note, notes) for note in (*assessment.reasons, *assessment.remarks)]
    value, n = _measured(assessment.measured, entry.digits)
    words = (
        label,
        entry.method.replace("(alpha=", " α=").rstrip(")"),
        number(entry.value, entry.digits),
        value,
        n,
    )
    status = Text(assessment.status, style=STYLES[assessment.status])
    return [*map(Text, words), status, Text(",".join(map(str, marks)))]


def _measured(measured: Measurement | None, digits: int) -> tuple[str, str]:
    """Value over interval, and items over seeds."""
    if measured is None:
        return DASH, ""
    seeds = f"\n{len(measured.seeds)} seeds" if len(measured.seeds) > 1 else ""
    value = DASH if measured.interval is None else _interval(measured.interval, digits)
    return value, f"{measured.n:,}{seeds}"


def _interval(interval: Interval, digits: int) -> str:
    value = number(interval.value, digits)
    if not interval.bounded:
        return value
    return f"{value}\n[{number(interval.low, digits)}, {number(interval.high, digits)}]"


def number(value: float, digits: int) -> str:
    """``value`` with ``digits`` decimals and no negative zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _mark(note: str, notes: list[str]) -> int:
    if note not in notes:
        notes.append(note)
    return notes.index(note) + 1
