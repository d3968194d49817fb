"""Tables in a terminal of 80 columns."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from msgm_bench.cli.terminal import discard_output
from msgm_bench.errors import clean
from msgm_bench.storage import single_line

if TYPE_CHECKING:
    from msgm_bench.api import Result

UNLIMITED = 10_000
WORD = re.compile(r"\S+(?: [±↑↓])?")  # with the sign that belongs to it
WIDTH = 80  # columns where stdout is no terminal
GROUP = ("dataset", "forget", "backbone", "preset")
Columns = Mapping[str, list[str]]
HEADING = re.compile(r"(?P<label>.*?)(?: \((?P<unit>[^()]*)\))?(?P<arrow> [↑↓])?")


class PlainConsole(Console):
    """Rich's console without markup: a text appears letter by letter."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """``text`` as it is, without escapes."""
        return super().render_str(clean(text), **options)

    def on_broken_pipe(self) -> None:
        """Discard further output; the command goes on."""
        discard_output(self.file)


@functools.cache
def console() -> PlainConsole:
    """Standard output; 80 columns where it is no terminal."""
    plain = PlainConsole()
    return plain if plain.is_terminal else PlainConsole(width=max(WIDTH, plain.width))


def print_table(names: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a plain table of text."""
    table = Table(title=title or None, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def print_grid(lines: Iterable[tuple[str, str]], indent: int = 3, width: int = 12) -> None:
    """Print labels of at least ``width`` letters beside texts, which are folded."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(min_width=width, max_width=WIDTH // 2, overflow="fold")
    grid.add_column(overflow="fold")
    for label, text in lines:
        grid.add_row(label, text)
    console().print(Padding(grid, (0, 0, 0, indent)))


def print_comparison(results: Sequence[Result]) -> None:
    """Print methods ranked within each group of runs, by the boards' rules without a gate.

    Columns that do not fit side by side without breaking a number go to a further table.
    """
    from msgm_bench.boards import compare  # pandas and scipy take a second to import

    frame = compare(results)
    values = [c for c in frame.columns if c not in (*GROUP, "rank", "method", "seeds", "notes")]
    for group, part in frame.groupby(list(GROUP), sort=False):
        dataset, forget, backbone, preset = map(single_line, group)
        title = f"{dataset}, forget {forget}, {backbone}, preset {preset}"
        title += " (small budgets)" if preset == "quick" else ""
        columns = {
            column: list(part[column]) for column in values if part[column].astype(bool).any()
        }
        front = {"#": list(part["rank"]), "method": list(part["method"])}
        for table in side_by_side(front, columns):
            table.title, title = title, ""
            console().print(table)
        for method, note in zip(part["method"], part["notes"], strict=True):
            if note:
                named = note if note.startswith(method) else f"{method}: {note}"
                console().print(f"  {single_line(named)}", style="dim")


def side_by_side(front: Columns, columns: Columns) -> list[Table]:
    """``columns`` in as few tables as hold them, beside ``front``, without breaking a word."""
    groups: list[dict[str, list[str]]] = [{}]
    for name, cells in columns.items():
        more = {**groups[-1], name: cells}
        if groups[-1] and _width(_ranked_table(front, more, narrow=True)) > console().width:
            more = {name: cells}
            groups.append({})
        groups[-1] = more
    return [
        min((_ranked_table(front, some, narrow) for narrow in (False, True)), key=_overfull)
        for some in groups
    ]


def _ranked_table(front: Columns, columns: Columns, narrow: bool) -> Table:
    """Ranks and methods, then values; in narrow columns each is as wide as its longest word."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title_justify="left")
    for name in front:
        table.add_column(name, no_wrap=True)
    for name, cells in columns.items():
        heading = column_heading(name)
        words = (word for cell in cells for word in WORD.findall(cell))
        longest = max(map(len, (*heading.splitlines(), *words)), default=1)
        table.add_column(heading, justify="right", width=longest if narrow else None)
    for row in zip(*front.values(), *columns.values(), strict=True):
        table.add_row(*row)
    return table


def _width(table: Table) -> int:
    """Letters of its lines, where they may be as long as they like."""
    unlimited = console().options.update(width=UNLIMITED)
    return console().measure(table, options=unlimited).maximum


def _overfull(table: Table) -> bool:
    """Whether it would have to break lines that it does not mean to."""
    return _width(table) > console().width


def column_heading(heading: str) -> str:
    """``NLL retain (bits/dim) ↓`` on narrow lines: first word and arrow, further words, unit."""
    match = HEADING.fullmatch(heading)
    if match is None:
        return heading
    label, unit, arrow = match["label"], match["unit"] or "", match["arrow"] or ""
    first, *words = label.split()
    return "\n".join(word for word in (f"{first}{arrow}", *words, unit) if word)
