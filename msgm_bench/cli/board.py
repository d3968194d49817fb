"""``msgm-bench board``."""

from __future__ import annotations

from pathlib import Path

import click

from msgm_bench.cli.terminal import say


@click.group()
def command() -> None:
    """Build and check leaderboards."""


@command.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--runs", type=click.Path(exists=True, file_okay=False), help="Take results in.")
def build(folder: str, runs: str | None) -> None:
    """Write FOLDER/README.md from its board.yaml and results, after taking in those of --runs."""
    from msgm_bench.boards import build as build_page
    from msgm_bench.storage import single_line

    page = build_page(Path(folder), None if runs is None else Path(runs))
    if page.imported is not None:
        for source, target in page.imported.taken.items():
            say(single_line(f"taken: {source} as {target}"))
        for source, reason in page.imported.left.items():
            say(single_line(f"left: {source}: {reason}"))
    for warning in (*page.refusals, *page.warnings):
        say(single_line(f"warning: {warning}"), err=True)
    say(f"written: {page.path}")


@command.command()
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False))
def check(folders: tuple[str, ...]) -> int:
    """Fail where a page is stale or a result is invalid; all of leaderboards/ by default."""
    from msgm_bench.boards import check as check_board
    from msgm_bench.boards import find_boards
    from msgm_bench.errors import UsageError, clean

    places = [Path(f) for f in folders] or find_boards(Path("leaderboards"))
    if not places:
        raise UsageError("no board here", "a folder with board.yaml, or leaderboards/ with some")
    failed = False
    for place in places:
        problems = check_board(place)
        for problem in problems:
            kind = "error" if problem.error else "warning"
            say(clean(f"{kind}: {place}: {problem}"), err=True)
        wrong = any(problem.error for problem in problems)
        failed |= wrong
        say(f"{place}: {'not in order' if wrong else 'in order'}")
    return 1 if failed else 0
