"""Tables that fit a terminal of 80 columns."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from msgm_bench.api import Result
from msgm_bench.boards import compare
from msgm_bench.cli.terminal import drop
from msgm_bench.errors import clean
from msgm_bench.storage import single_line

WIDTH = 80  # columns where output is no terminal
FRONT = ("dataset", "forget", "backbone", "preset")
SHORT = {
    "ur": "UR",
    "unrecognisable": "unrecog.",
    "ua": "UA",
    "ua_unrecognisable": "unrecog.",
    "ra": "RA",
    "fid": "FID",
    "nll": "NLL",
    "nll_median": "median",
    "samples": "",
    "retain": "keep",
    "forget": "forget",
}


class PlainConsole(Console):
    """Rich's tables and bars; each text is shown letter by letter."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """``text`` as it is, without escapes."""
        return super().render_str(clean(text), **options)

    def on_broken_pipe(self) -> None:
        """Nobody reads any more: go on without a word."""
        drop(self.file)


@functools.cache
def console() -> PlainConsole:
    """Standard output; 80 columns where it is no terminal."""
    plain = PlainConsole()
    return plain if plain.is_terminal else PlainConsole(width=max(WIDTH, plain.width))


def grid(names: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """A plain table of text."""
    table = Table(title=title or None, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def comparison(results: Sequence[Result]) -> None:
    """Methods ranked within each cell: the leaderboard's rules, without a gate."""
    frame = compare(results)
    values = [c for c in frame.columns if c not in (*FRONT, "rank", "method", "seeds", "notes")]
    for cell, part in frame.groupby(list(FRONT), sort=False):
        dataset, forget, backbone, preset = map(single_line, cell)
        title = f"{dataset}, forget {forget}, {backbone}, preset {preset}"
        title += " (small budgets)" if preset == "quick" else ""
        table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.title_justify = "left"
        table.add_column("#", no_wrap=True)
        table.add_column("method", no_wrap=True)
        shown = [column for column in values if part[column].astype(bool).any()]
        for column in shown:
            table.add_column(_short(column), justify="right", overflow="fold")
        for _, row in part.iterrows():
            table.add_row(row["rank"], row["method"], *(row[column] for column in shown))
        console().print(table)
        notes = dict.fromkeys(note for note in part["notes"] if note)
        for note in notes:
            console().print(f"  {single_line(note)}", style="dim")


def _short(heading: str) -> str:
    """``nll, retain (bits/dim) ↓`` in as many narrow lines as it takes."""
    name, _, rest = heading.partition(" (")
    unit, _, arrow = rest.partition(")")
    metric, _, split = name.partition(", ")
    words = [f"{SHORT.get(metric, metric)} {arrow.strip()}", SHORT.get(split, split), unit.strip()]
    return "\n".join(word for word in words if word)
