"""``msgm-bench board``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from msgm_bench.cli.exit_codes import ExitCode
from msgm_bench.cli.options import FolderType
from msgm_bench.cli.terminal import echo

if TYPE_CHECKING:
    from msgm_bench.boards import BoardPage, Problem

BOARDS = "leaderboards"
BOARD_FOLDER = FolderType("a folder with board.yaml, or a folder of such folders")
RUNS_FOLDER = FolderType("a folder of run folders, such as runs/")


@click.group()
def command() -> None:
    """Build and check leaderboards."""


@command.command()
@click.argument("folder", type=BOARD_FOLDER)
@click.option("--runs", type=RUNS_FOLDER, metavar="DIR", help="Import the results below DIR first.")
def build(folder: str, runs: str | None) -> None:
    """Write the pages and the plot of a board from its board.yaml and results.

    FOLDER is a board, or a folder of boards: then all boards and the index are written.
    """
    from msgm_bench.boards import build as build_board
    from msgm_bench.boards import build_all
    from msgm_bench.boards.board import BOARD_FILE

    place, source = Path(folder), None if runs is None else Path(runs)
    if (place / BOARD_FILE).is_file():
        _print_page(build_board(place, source))
        return
    for page in build_all(place, source):
        _print_page(page)
    echo(f"written: index of {place}")


def _print_page(page: BoardPage) -> None:
    """Print the imported and the skipped results, the warnings, and the path of the page."""
    from msgm_bench.storage import single_line

    if page.imported is not None:
        for source, target in page.imported.written.items():
            echo(single_line(f"imported: {source} as {target}"))
        for source, reason in page.imported.left.items():
            echo(single_line(f"skipped: {source}: {reason}"))
    for warning in (*page.refusals, *page.warnings):
        echo(single_line(f"warning: {warning}"), err=True)
    echo(f"written: {page.path}")


@command.command()
@click.argument("folders", nargs=-1, type=BOARD_FOLDER)
def check(folders: tuple[str, ...]) -> int:
    """Check that boards are up to date and their results valid.

    FOLDERS are boards, or folders of boards with an index; leaderboards/ by default. Exits with 1
    where a page is stale or a result is invalid.
    """
    from msgm_bench.boards import check as check_board
    from msgm_bench.boards import check_index, find_boards
    from msgm_bench.boards.board import BOARD_FILE
    from msgm_bench.errors import UsageError

    has_errors = False
    for root in map(Path, folders or (BOARDS,)):
        places = find_boards(root)
        if not places:
            raise UsageError(f"no board in {root}", f"a folder with {BOARD_FILE}, or one of such")
        for place in places:
            has_errors |= _print_problems(place, check_board(place))
        if places != [root]:
            has_errors |= _print_problems(root, check_index(root))
    return ExitCode.FAILED if has_errors else ExitCode.OK


def _print_problems(place: Path, problems: list[Problem]) -> bool:
    """Print the problems of a folder; whether one of them is an error."""
    from msgm_bench.errors import clean

    for problem in problems:
        echo(clean(f"{'error' if problem.error else 'warning'}: {place}: {problem}"), err=True)
    has_errors = any(problem.error for problem in problems)
    echo(f"{place}: {'not in order' if has_errors else 'in order'}")
    return has_errors
