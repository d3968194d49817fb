"""What the page of a board shows, without a word of markup."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgm_bench.api.track import track_name
from msgm_bench.boards.board import Board, Column
from msgm_bench.boards.markdown import estimate
from msgm_bench.boards.pages import BoardPage
from msgm_bench.boards.protocols_page import policies, provenance, quantities, settings
from msgm_bench.boards.ranking import direction_sign, rows, series
from msgm_bench.boards.render import (
    columns,
    has_seeds,
    heading,
    label_of,
    pass_items,
    seeds_of,
    stated,
)
from msgm_bench.boards.trust import LEVELS, method_levels, read_trust
from msgm_bench.hookspecs import Published
from msgm_bench.site.protocol_view import ProtocolView, protocol_views
from msgm_bench.storage.markdown import DASH


@dataclass
class Notes:
    """Numbered notes; one text has one number."""

    texts: list[str] = field(default_factory=list)

    def numbers(self, texts: Sequence[str]) -> list[int]:
        """Numbers of ``texts``, new ones at the end."""
        self.texts += [text for text in dict.fromkeys(texts) if text not in self.texts]
        return [self.texts.index(text) + 1 for text in texts]


@dataclass(frozen=True)
class Heading:
    """The head of a column.

    Attributes:
        text: Label, unit and arrow.
        better: ``ascending`` where lower is better, else ``descending``: the first order.
        protocol: Number of the protocol behind it, from 1; 0 where nothing is measured.
        is_detail: Whether it stands behind the columns that everybody looks at.
    """

    text: str
    better: str
    protocol: int
    is_detail: bool


@dataclass(frozen=True)
class Cell:
    """A value of a method.

    Attributes:
        text: As on the board's page.
        value: The mean, by which it is sorted; None where there is none.
        notes: Numbers of its notes.
        published: Values of papers beside it.
    """

    text: str
    value: float | None
    notes: Sequence[int]
    published: Sequence[Published] = ()


@dataclass(frozen=True)
class Line:
    """A method.

    Attributes:
        method: Its name.
        place: Its rank, or a dash.
        ranks: The interval of its rank, or nothing.
        order: Its place in the order of the page.
        role: ``reference``, ``baseline`` or nothing.
        is_ranked: Whether it has a rank.
        trust: Trust level, or a dash.
        trust_order: Place of the level.
        seeds: Number of seeds.
        notes: Numbers of notes on its place.
        cells: Its values.
    """

    method: str
    place: str
    ranks: str
    order: int
    role: str
    is_ranked: bool
    trust: str
    trust_order: int
    seeds: int
    notes: Sequence[int]
    cells: Sequence[Cell]


@dataclass(frozen=True)
class BoardView:
    """A board as the site shows it.

    Attributes:
        name: Its part of addresses.
        page: The board with its results.
        conditions: What all results have in common: term and values.
        headings: Heads of the columns.
        lines: Its methods in the order of the page.
        notes: Notes of the table.
        protocols: How it was measured.
        rule: What ranks, and the gate, in words: label and limit of each.
        rank_label: Label of what ranks.
        published: Values of papers that its results answer.
    """

    name: str
    page: BoardPage
    conditions: Sequence[tuple[str, Sequence[str]]]
    headings: Sequence[Heading]
    lines: Sequence[Line]
    notes: Sequence[str]
    protocols: Sequence[ProtocolView]
    rule: Sequence[tuple[str, float]]
    rank_label: str
    published: Sequence[Published]

    @property
    def board(self) -> Board:
        """Its definition."""
        return self.page.board

    @property
    def has_seeds(self) -> bool:
        """Whether values are means over seeds."""
        return has_seeds(self.page.frame)

    @property
    def detail_notes(self) -> set[int]:
        """Numbers of the notes that only further quantities refer to."""
        cells = [
            (cell.notes, head.is_detail)
            for line in self.lines
            for cell, head in zip(line.cells, self.headings, strict=True)
        ]
        others = {n for line in self.lines for n in line.notes}
        others |= {n for numbers, is_detail in cells if not is_detail for n in numbers}
        return set(range(1, len(self.notes) + 1)) - others

    @property
    def settings(self) -> tuple[list[str], dict[str, list[str]]]:
        """Options beside the preset: of all methods, and of each."""
        return settings(self.page.results)

    @property
    def policies(self) -> Mapping[str, Sequence[str]]:
        """Batch, learning rate, warm-up, decay and passes of each method."""
        return policies(self.board, self.page.results)

    @property
    def provenance(self) -> Mapping[str, str]:
        """Versions and hardware."""
        return provenance(self.page.results)


def board_view(page: BoardPage, name: str, published: Sequence[Published]) -> BoardView:
    """The view of a board.

    Args:
        page: The board with its results.
        name: Its part of addresses.
        published: Values of papers that its results answer.
    """
    board, frame, notes = page.board, page.frame, Notes()
    protocols = protocol_views(page)
    names = [protocol.name for protocol in protocols]
    numbers = {
        entry["key"]: names.index(entry["protocol"]) + 1 for entry in quantities(board, frame)
    }
    return BoardView(
        name,
        page,
        conditions(page),
        [_heading(page, column, numbers) for column in columns(board)],
        lines(page, notes, published),
        notes.texts,
        protocols,
        [(label_of(board, limit), limit.within) for limit in board.gate.limits],
        label_of(board, board.rank),
        [entry for entry in published if entry.method in set(frame["method"])],
    )


def conditions(page: BoardPage) -> list[tuple[str, list[str]]]:
    """What all results have in common: terms and their values."""
    run, budget = page.board.run, []
    if run.passes:
        items = pass_items(page.results)
        budget = [f"{run.passes:,} passes" + (f" of {items:,} items" if items else "")]
    facts: list[tuple[str, list[str]]] = [
        ("dataset", [run.dataset]),
        ("forget", list(run.forget)),
        ("backbone", [run.backbone, track_name(run.track)]),
        ("preset", [run.preset]),
        ("regime", [run.regime] if run.regime else []),
        ("budget", budget),
        ("base", [run.base] if run.base else []),
        ("options", stated(run)),
        ("seeds", [f"at least {page.board.seeds}"]),
    ]
    return [(term, values) for term, values in facts if values]


def lines(page: BoardPage, notes: Notes, published: Sequence[Published]) -> list[Line]:
    """The methods of a board, with the numbers of their notes."""
    board, frame = page.board, page.frame
    levels = method_levels(read_trust(page.folder), page.results)
    roles = {board.gate.reference: "reference", board.baseline.method: "baseline"}
    first, listed = [], []
    for row in page.ranked:
        seeds, remarks = seeds_of(frame, row.method), list(row.notes)
        if 0 < seeds < board.seeds:
            remarks.append(f"{seeds} of {board.seeds} seeds")
        numbers = notes.numbers(remarks)
        cells = [_cell(page, row.method, column, notes, published) for column in board.columns]
        first.append((row, seeds, numbers, cells))
    for order, (row, seeds, numbers, cells) in enumerate(first):  # details have later numbers
        cells += [_cell(page, row.method, column, notes, published) for column in board.details]
        level = levels.get(row.method)
        listed.append(
            Line(
                row.method,
                row.label,
                row.range,
                order,
                roles.get(row.method, ""),
                row.rank is not None,
                level or DASH,
                -1 if level is None else LEVELS.index(level),
                seeds,
                numbers,
                cells,
            )
        )
    return listed


def _heading(page: BoardPage, column: Column, numbers: Mapping[str, int]) -> Heading:
    directions = set(page.frame.loc[page.frame["key"] == str(column.key), "direction"])
    sign = -1 if directions & {"none"} else direction_sign(page.frame, column.key)
    return Heading(
        heading(page.frame, column),
        "ascending" if sign > 0 else "descending",
        numbers.get(str(column.key), 0),
        column in page.board.details,
    )


def _cell(
    page: BoardPage,
    method: str,
    column: Column,
    notes: Notes,
    published: Sequence[Published],
) -> Cell:
    text, remarks = estimate(rows(page.frame, method, column.key), column.digits)
    mean = series(page.frame, method, column.key).mean()
    beside = [
        entry
        for entry in published
        if (entry.method, entry.metric, entry.split) == (method, column.metric, column.split)
    ]
    value = None if text == DASH or not math.isfinite(mean) else float(mean)
    return Cell(text, value, notes.numbers(remarks), beside)
