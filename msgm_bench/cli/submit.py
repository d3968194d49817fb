"""``msgm-bench submit``."""

from __future__ import annotations

from pathlib import Path

import click

from msgm_bench.cli.assessment import BOARD_FOLDER, max_size_option, print_assessment, size_limit
from msgm_bench.cli.options import RUN_FOLDER
from msgm_bench.cli.terminal import echo


@click.command()
@click.argument("run", type=RUN_FOLDER)
@click.option(
    "--board", required=True, type=BOARD_FOLDER, metavar="DIR", help="The board it is for."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="The archive; RUN.submission.zip here by default.",
)
@click.option("--features", is_flag=True, help="Pack features where their moments would do.")
@max_size_option
def command(run: str, board: str, out: str | None, features: bool, max_size: float) -> None:
    """Pack a run for somebody else's leaderboard.

    RUN is a run folder of this machine, whose stages are in the cache. The archive has the
    result, the request, and what it takes to recompute the values: judged classes, the NLL of
    each item, features or their moments. `msgm-bench submission check` says what a keeper of the
    board will see.
    """
    from msgm_bench.errors import RefusedError
    from msgm_bench.quarantine import stdout_to_stderr
    from msgm_bench.storage import single_line
    from msgm_bench.submissions import board_facts, check, make, write

    folder = Path(run)
    target = Path(out or f"{folder.absolute().name}.submission.zip")
    with stdout_to_stderr():
        facts = board_facts(Path(board))
        submission = make(folder, features, size_limit(max_size))
        try:
            assessment = check(submission, facts)
        except RefusedError as error:
            what = f"{single_line(folder)} would be refused: {error.what}"
            raise RefusedError(what, error.allowed, error.hint) from error
        size = write(target, submission)
    print_assessment(str(target), assessment, facts.board)
    echo(f"written: {target} ({size / 2**20:.2f} MiB)")
