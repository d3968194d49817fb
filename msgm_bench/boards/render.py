"""A board and its results as a short page of markdown; the same input gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import jinja2
import pandas as pd

from msgm_bench.api.result import Result
from msgm_bench.api.track import track_name
from msgm_bench.boards.board import ORIGINS, Board, Column, Quantity, RunConditions
from msgm_bench.boards.markdown import ARROWS, Footnotes, code, estimate, fenced, prose, tag_text
from msgm_bench.boards.ranking import RankedRow, rows, stamps_of
from msgm_bench.boards.trust import Level
from msgm_bench.storage import markdown_text, one_line_yaml
from msgm_bench.storage.markdown import DASH
from msgm_bench.sweep import Sweep
from msgm_bench.templating import environment


def has_seeds(frame: pd.DataFrame) -> bool:
    """Whether a method has several seeds, so that values are means over them."""
    return bool((frame.groupby("method")["seed"].nunique() > 1).any())


def render(
    board: Board,
    results: Sequence[Result],
    frame: pd.DataFrame,
    ranked: Sequence[RankedRow],
    stamps: Sequence[str],
    levels: Mapping[str, Level],
    *,
    with_picture: bool = False,
    sweep: Sweep | None = None,
) -> str:
    """The text of the page.

    Args:
        board: What the page is of.
        results: All results of the board.
        frame: Their tidy table.
        ranked: Methods in the order of the page.
        stamps: Why the baseline is not sound; every row is stamped if there is any.
        levels: Trust level of each method that has results.
        with_picture: Whether the board has a picture.
        sweep: Quality against network evaluations of one of the runs.
    """
    notes = Footnotes()
    return template("page.md.j2").render(
        board=board,
        track=track_name(board.run.track),
        picture=board.picture if with_picture else None,
        sweep=sweep,
        panels=[column_label(column) for column in board.panels],
        has_seeds=has_seeds(frame),
        stated=stated(board.run),
        pass_items=pass_items(results),
        older=sum(
            "migrated_from" in result.provenance and not result.provenance.get("code")
            for result in results
        ),
        count=len(results),
        stamps=stamps,
        doubts=stamps_of(frame),
        header=[page_heading(frame, column) for column in board.columns],
        rows=[
            [
                *page_row(board, frame, row, notes, bool(stamps)),
                *([board.origin(row.method) or DASH] if board.origins else []),
                levels.get(row.method, DASH),
            ]
            for row in ranked
        ],
        notes=notes.texts,
        origin_texts=ORIGINS,
        rank_intervals=any(row.interval is not None for row in ranked),
        names={str(column.key): column_label(column) for column in reversed(columns(board))},
    )


def template(name: str) -> jinja2.Template:
    """A template of markdown, with the filters that escape."""
    templates = environment(
        "msgm_bench.boards",
        autoescape=False,  # markdown: the filters escape
        markdown_text=markdown_text,
        code=code,
        prose=prose,
        tag_text=tag_text,
        fenced=fenced,
    )
    return templates.get_template(name)


def stated(run: RunConditions) -> list[str]:
    """The options that all results have, as on a command line."""
    flags = [("-d ", run.dataset_params), ("-b ", run.backbone_params)]
    flags += [(f"-p {name}.", options) for name, options in run.method_params.items()]
    flags += [(f"--training {name}.", settings) for name, settings in run.training.items()]
    flags += [(f"-t {name}.", options) for name, options in run.task_params.items()]
    return [
        *(f"--task {name}" for name in run.tasks),
        *(
            f"{flag}{key}={value if isinstance(value, str) else one_line_yaml(value)}"
            for flag, options in flags
            for key, value in options.items()
        ),
    ]


def pass_items(results: Iterable[Result]) -> int | None:
    """Items of one pass, where a result says so; they are one over a board of passes."""
    counts = (result.spec.settings.get("pass_items") for result in results)
    return next((count for count in counts if count is not None), None)


def columns(board: Board) -> list[Column]:
    """The columns of both tables."""
    return [*board.columns, *board.details]


def column_label(column: Column) -> str:
    """The heading that a board gives, or the metric and its split."""
    return column.label or f"{column.metric}, {column.split}"


def label_of(board: Board, quantity: Quantity) -> str:
    """The heading of the quantity's column, or its name where it has none."""
    named = (column for column in columns(board) if column.key == quantity.key)
    return next((column_label(column) for column in named), str(quantity))


def heading(frame: pd.DataFrame, column: Column, label: str | None = None) -> str:
    """Label, unit and arrow: ``NLL retain (bits/dim) ↓``."""
    measured = frame[(frame["key"] == str(column.key)) & (frame["unit"] != "")]
    label = column_label(column) if label is None else label
    if measured.empty:
        return label
    unit, direction = measured.iloc[0][["unit", "direction"]]
    words = (label, "" if unit == "1" else f"({unit})", ARROWS.get(direction, ""))
    return " ".join(word for word in words if word)


def page_heading(frame: pd.DataFrame, column: Column) -> str:
    """``heading`` as markdown."""
    return markdown_text(heading(frame, column))


def page_row(
    board: Board, frame: pd.DataFrame, row: RankedRow, notes: Footnotes, stamped: bool
) -> list[str]:
    """Cells of one line of the page's table."""
    count = seeds_of(frame, row.method)
    remarks = list(row.notes)
    if 0 < count < board.seeds:
        remarks.append(f"{count} of {board.seeds} seeds")
    place = f"**{row.label}**" if row.rank == 1 else row.label
    stamp = "⚠" if stamped else ""
    cells = [
        " ".join(word for word in (place, row.range, stamp) if word),
        f"{code(row.method)}{role(board, row.method)}{notes.mark(*remarks)}",
    ]
    return cells + values(frame, row.method, board.columns, notes)


def role(board: Board, method: str) -> str:
    """What the method is on the board, in brackets, or nothing."""
    roles = {board.gate.reference: " (reference)", board.baseline.method: " (baseline)"}
    return roles.get(method, "")


def seeds_of(frame: pd.DataFrame, method: str) -> int:
    """Number of seeds that a method has."""
    return int(frame.loc[frame["method"] == method, "seed"].nunique())


def values(
    frame: pd.DataFrame, method: str, chosen: Sequence[Column], notes: Footnotes
) -> list[str]:
    """The cells of the columns, with marks of their notes."""
    cells = []
    for column in chosen:
        text, remarks = estimate(rows(frame, method, column.key), column.digits)
        cells.append(f"{text}{notes.mark(*remarks)}")
    return cells
