"""The index of a folder of boards: what each is about and who leads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from msgm_bench.api.track import track_name
from msgm_bench.boards.board import PAGE_FILE
from msgm_bench.boards.markdown import code, estimate
from msgm_bench.boards.pages import BoardPage, Problem, build, find_boards, page, stale_file
from msgm_bench.boards.ranking import RankedRow, rows
from msgm_bench.boards.render import column_label, label_of, template
from msgm_bench.errors import MsgmBenchError, UsageError, joined
from msgm_bench.storage import markdown_text, write_text

INDEX_FILE = PAGE_FILE


def build_all(
    root: Path, runs: Path | None = None, written: Callable[[BoardPage], object] = lambda page: None
) -> list[BoardPage]:
    """Build all boards of a folder, and its index.

    Where boards are wrong the others are built, and the index stays as it is.

    Args:
        root: The folder.
        runs: Where results are imported from first.
        written: Called with each page once it is written.

    Raises:
        UsageError: Boards are wrong, or there is none.
        StorageError: A file cannot be read or written.
    """
    folders = find_boards(root)
    if not folders:
        raise UsageError(f"no board in {root}", "folders with board.yaml", "check the path")
    built, errors = list[BoardPage](), list[MsgmBenchError]()
    for folder in folders:
        try:
            built.append(build(folder, runs))
        except MsgmBenchError as error:
            errors.append(error)
        else:
            written(built[-1])
    if errors:
        raise joined(errors)
    write_text(root / INDEX_FILE, index(built))
    return built


def check_index(root: Path) -> list[Problem]:
    """What is wrong with the index of a folder of boards: that it is missing or stale.

    A board that has no page is left to its own check.
    """
    try:
        pages = [page(folder) for folder in find_boards(root)]
    except MsgmBenchError:
        return []
    stale = stale_file(root, INDEX_FILE, index(pages))
    return [] if stale is None else [Problem(stale, error=True)]


def index(pages: Sequence[BoardPage]) -> str:
    """The text of the index."""
    return template("index.md.j2").render(boards=[_line(built) for built in pages])


def _line(built: BoardPage) -> list[str]:
    """Cells of one board."""
    board, run = built.board, built.board.run
    track = track_name(run.track)
    forget = ", ".join(code(name) for name in run.forget)
    budget = f", {run.passes:,} passes" if run.passes else ""
    titles = [markdown_text(column_label(column)) for column in board.columns]
    return [
        f"[{markdown_text(board.title)}]({quote(built.folder.name)}/{PAGE_FILE})",
        f"{code(run.dataset)} without {forget}; {code(run.backbone)}, {track}",
        f"{code(run.preset)}{f', {run.regime}' if run.regime else ''}{budget}",
        str(len(board.methods)),
        _leader(built),
        " · ".join(titles),
    ]


def leaders(built: BoardPage) -> list[RankedRow]:
    """The best-ranked methods beside reference and baseline, or with them where all are such."""
    ranked = [row for row in built.ranked if row.rank is not None]
    methods = [row for row in ranked if not built.board.exempt(row.method)] or ranked
    return [row for row in methods if row.rank == methods[0].rank]


def _leader(built: BoardPage) -> str:
    """Names and value of the leaders; a mark where the baseline's gate is missed."""
    best = leaders(built)
    if not best:
        return markdown_text("")
    board = built.board
    columns = [column for column in board.columns if column.key == board.rank.key]
    digits = columns[0].digits if columns else 2
    value, _ = estimate(rows(built.frame, best[0].method, board.rank.key), digits)
    label = markdown_text(label_of(board, board.rank))
    names = ", ".join(code(row.method) for row in best)
    mark = " ⚠" if built.stamps else ""
    return f"{names}{' (tied)' if len(best) > 1 else ''}: {label} {value}{mark}"
