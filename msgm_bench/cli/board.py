"""``msgm-bench board``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from msgm_bench.cli.assessment import max_size_option, print_assessment, size_limit
from msgm_bench.cli.exit_codes import ExitCode
from msgm_bench.cli.options import FolderType
from msgm_bench.cli.power import power
from msgm_bench.cli.terminal import echo

if TYPE_CHECKING:
    from msgm_bench.api import Result
    from msgm_bench.boards import Board, BoardPage, Problem

BOARDS = "leaderboards"
VERIFY_CACHE = "verify-cache"
BOARD_FOLDER = FolderType("a folder with board.yaml, or a folder of such folders")
RUNS_FOLDER = FolderType("a folder of run folders, such as runs/")


@click.group()
def command() -> None:
    """Build and check leaderboards."""


command.add_command(power)


@command.command()
@click.argument("folder", type=BOARD_FOLDER)
@click.option("--runs", type=RUNS_FOLDER, metavar="DIR", help="Import the results below DIR first.")
def build(folder: str, runs: str | None) -> int:
    """Write the pages and the plot of a board from its board.yaml and results.

    FOLDER is a board, or a folder of boards: then all boards and the index are written. Exits with
    1 where runs belong to a board and do not compare with what stands there; they are not imported.
    """
    from msgm_bench.boards import build as build_board
    from msgm_bench.boards import build_all
    from msgm_bench.boards.board import BOARD_FILE

    place, source = Path(folder), None if runs is None else Path(runs)
    if (place / BOARD_FILE).is_file():
        pages = [build_board(place, source)]
        _print_page(pages[0])
    else:
        pages = build_all(place, source, _print_page)
        echo(f"written: index of {place}")
    has_refused = any(page.imported and page.imported.refused for page in pages)
    return ExitCode.FAILED if has_refused else ExitCode.OK


def _print_page(page: BoardPage) -> None:
    """Print the imported and the skipped results, the warnings, and the path of the page."""
    from msgm_bench.storage import single_line

    if page.imported is not None:
        for source, target in page.imported.written.items():
            echo(single_line(f"imported: {source} as {target}"))
        for source, reason in page.imported.left.items():
            echo(single_line(f"skipped: {source}: {reason}"))
        for source, reason in page.imported.refused.items():
            echo(single_line(f"not imported: {source}: {reason}"), err=True)
        if page.imported.refused:
            echo(
                "run all seeds of these methods by one version, and import them together", err=True
            )
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
    from msgm_bench.storage import single_line

    for problem in problems:
        kind = "error" if problem.error else "warning"
        echo(single_line(f"{kind}: {place}: {problem}"), err=True)
    has_errors = any(problem.error for problem in problems)
    echo(f"{place}: {'not in order' if has_errors else 'in order'}")
    return has_errors


@command.command()
@click.argument("target", metavar="DIR", type=click.Path())
@click.option(
    "--boards",
    "folder",
    type=BOARD_FOLDER,
    default=BOARDS,
    show_default=True,
    metavar="FOLDER",
    help="A folder of boards, or one board.",
)
def site(target: str, folder: str) -> int:
    """Write one static site of all boards into DIR.

    The site needs neither server nor network: open DIR/index.html. DIR is new, empty or an older
    site, which is replaced. Exits with 1 where a board cannot be shown; the others are.
    """
    from msgm_bench.site import build_site
    from msgm_bench.storage import single_line

    built = build_site(Path(folder), Path(target))
    for page in built.pages:
        for refusal in page.refusals:
            echo(single_line(f"warning: {page.folder}: {refusal}"), err=True)
        if not page.results:
            echo(single_line(f"warning: {page.folder} has no results yet"), err=True)
    for name, reason in built.refused.items():
        echo(single_line(f"error: {name} is left out: {reason}"), err=True)
    count = len(built.pages)
    echo(
        f"written: {Path(target) / 'index.html'}, {count} board{'s' if count != 1 else ''}, "
        f"{built.size / 1e6:.2f} MB"
    )
    return ExitCode.FAILED if built.refused else ExitCode.OK


@command.command()
@click.argument("folder", type=BOARD_FOLDER)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@max_size_option
def add(folder: str, files: tuple[str, ...], max_size: float) -> None:
    """Check submissions, take their results into a board, and write its pages.

    FOLDER is a board, FILES are archives of `msgm-bench submit`. The first that is refused ends
    the command; those before it stay.
    """
    from msgm_bench.boards import build as build_board
    from msgm_bench.quarantine import stdout_to_stderr
    from msgm_bench.submissions import add as add_submission
    from msgm_bench.submissions import board_facts

    place = Path(folder)
    try:
        for file in files:
            with stdout_to_stderr():
                added = add_submission(place, Path(file), size_limit(max_size))
            print_assessment(file, added.assessment, board_facts(place).board)
            echo(f"added: {added.path}")
    finally:
        _print_page(build_board(place))


@command.command()
@click.argument("folder", type=BOARD_FOLDER)
@click.argument("method")
@click.option(
    "--seed",
    "seeds",
    multiple=True,
    type=click.IntRange(0),
    metavar="N",
    help="Seed, may repeat; all of the method by default.",
)
@click.option("--out", default="runs", show_default=True, type=click.Path(), metavar="DIR")
@click.option(
    "--cached",
    is_flag=True,
    help="Take finished stages from this machine's cache; by default all is computed again.",
)
def verify(folder: str, method: str, seeds: tuple[int, ...], out: str, cached: bool) -> int:
    """Run the command of a row again, and compare.

    FOLDER is a board, METHOD one of its methods. The stages of the run have a cache of their own,
    OUT/verify-cache; a verification that was stopped goes on there. Each quantity of the board and
    the ends of its interval may differ by sqrt(2) h, with h the half-width of the new 95 % interval
    over items; without an interval by rounding alone. Results that agree are re-run from then on.
    Exits with 1 where one does not.
    """
    from msgm_bench.boards import build as build_board
    from msgm_bench.boards.trust import record_trust
    from msgm_bench.cache.cache import cache_in
    from msgm_bench.errors import RefusedError
    from msgm_bench.storage import single_line
    from msgm_bench.submissions import board_facts, method_results

    place = Path(folder)
    facts = board_facts(place)
    has_failed = False
    for result in method_results(facts, method, seeds):
        name = f"{method} seed {result.spec.seed}"
        own_cache = contextlib.nullcontext() if cached else cache_in(Path(out) / VERIFY_CACHE)
        try:
            with own_cache:
                agrees = _run_again(facts.board, result, Path(out))
        except RefusedError as error:
            echo(single_line(f"{name}: {'; '.join(str(error).splitlines())}"))
            agrees = False
        if agrees:
            record_trust(place, [result], "re-run")
        has_failed |= not agrees
        echo(f"{name}: {'re-run' if agrees else 'does not agree'}")
    _print_page(build_board(place))
    return ExitCode.FAILED if has_failed else ExitCode.OK


def _run_again(board: Board, result: Result, out: Path) -> bool:
    """Run the command of a result again, print the comparison; whether all values agree."""
    from msgm_bench.cli.progress import show_progress
    from msgm_bench.cli.recorded_command import spec_of_command
    from msgm_bench.cli.tables import print_table
    from msgm_bench.quarantine import stdout_to_stderr
    from msgm_bench.submissions import verify as verify_result

    spec = spec_of_command(result.provenance.get("command"))
    spec = spec.model_copy(update={"record_samples": 0})  # they change no value
    with stdout_to_stderr(), show_progress(1):
        compared = verify_result(board, result, spec, out)
    lines = [
        (
            str(entry.quantity),
            _number(entry.stored.value),
            _number(None if entry.again is None else entry.again.value),
            f"{entry.tolerance:.3g}",
            "agrees" if entry.agrees else "differs",
        )
        for entry in compared
    ]
    title = f"{result.spec.method} seed {result.spec.seed}"
    print_table(("quantity", "board", "again", "tolerance", ""), lines, title)
    return all(entry.agrees for entry in compared)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"
