"""``msgm-bench submission``."""

from __future__ import annotations

from pathlib import Path

import click

from msgm_bench.cli.assessment import BOARD_FOLDER, max_size_option, print_assessment, size_limit
from msgm_bench.cli.exit_codes import ExitCode
from msgm_bench.cli.terminal import echo


@click.group()
def command() -> None:
    """Check packed runs."""


@command.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--board", type=BOARD_FOLDER, metavar="DIR", help="The board that they are for.")
@max_size_option
def check(files: tuple[str, ...], board: str | None, max_size: float) -> int:
    """Check submissions, offline and without running anything in them.

    FILES are archives of `msgm-bench submit`. Hashes, schema, code, protocols and values are
    compared, and every row whose evidence is there is recomputed. Exits with 1 where a
    submission is refused; the reason is printed.
    """
    from msgm_bench.errors import MsgmBenchError
    from msgm_bench.quarantine import stdout_to_stderr
    from msgm_bench.storage import single_line
    from msgm_bench.submissions import board_facts, read
    from msgm_bench.submissions import check as check_submission

    facts = None if board is None else board_facts(Path(board))
    refused = False
    for file in files:
        try:
            with stdout_to_stderr():
                assessment = check_submission(read(Path(file), size_limit(max_size)), facts)
        except MsgmBenchError as error:
            refused = True
            echo(single_line(f"{file}: refused: {'; '.join(str(error).splitlines())}"))
            continue
        print_assessment(file, assessment, None if facts is None else facts.board)
    return ExitCode.FAILED if refused else ExitCode.OK
