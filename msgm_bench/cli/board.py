"""``msgm-bench board``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from msgm_bench.cli.terminal import say

if TYPE_CHECKING:
    from msgm_bench.boards import BoardPage, Problem

BOARDS = "leaderboards"


@click.group()
def command() -> None:
    """Build and check leaderboards."""


@command.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--runs", type=click.Path(exists=True, file_okay=False), help="Import results.")
def build(folder: str, runs: str | None) -> None:
    """Write the pages and the plot of a board from its board.yaml and results.

    FOLDER is a board, or a folder of boards: then all of them and its index are written. --runs
    imports results from run folders first.
    """
    from msgm_bench.boards import build as build_board
    from msgm_bench.boards import build_all
    from msgm_bench.boards.board import BOARD_FILE

    place, source = Path(folder), None if runs is None else Path(runs)
    if (place / BOARD_FILE).is_file():
        _report(build_board(place, source))
        return
    for page in build_all(place, source):
        _report(page)
    say(f"written: index of {place}")


def _report(page: BoardPage) -> None:
    """What was imported, what is left out, and where the page is."""
    from msgm_bench.storage import single_line

    if page.imported is not None:
        for source, target in page.imported.written.items():
            say(single_line(f"imported: {source} as {target}"))
        for source, reason in page.imported.left.items():
            say(single_line(f"left: {source}: {reason}"))
    for warning in (*page.refusals, *page.warnings):
        say(single_line(f"warning: {warning}"), err=True)
    say(f"written: {page.path}")


@command.command()
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False))
def check(folders: tuple[str, ...]) -> int:
    """Fail where a file is stale or a result is invalid; all of leaderboards/ by default.

    Of a folder of boards each board is checked, and the index.
    """
    from msgm_bench.boards import check as check_board
    from msgm_bench.boards import check_index, find_boards
    from msgm_bench.boards.board import BOARD_FILE
    from msgm_bench.errors import UsageError

    failed = False
    for root in map(Path, folders or (BOARDS,)):
        places = find_boards(root)
        if not places:
            raise UsageError(f"no board in {root}", f"a folder with {BOARD_FILE}, or one of such")
        for place in places:
            failed |= _failed(place, check_board(place))
        if places != [root]:
            failed |= _failed(root, check_index(root))
    return 1 if failed else 0


def _failed(place: Path, problems: list[Problem]) -> bool:
    """Print the problems of a folder; whether one of them is an error."""
    from msgm_bench.errors import clean

    for problem in problems:
        say(clean(f"{'error' if problem.error else 'warning'}: {place}: {problem}"), err=True)
    wrong = any(problem.error for problem in problems)
    say(f"{place}: {'not in order' if wrong else 'in order'}")
    return wrong
