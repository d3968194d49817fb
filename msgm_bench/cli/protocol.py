"""``msgm-bench protocol``."""

from __future__ import annotations

from pathlib import Path

import click

from msgm_bench.cli.exit_codes import ExitCode
from msgm_bench.cli.terminal import echo


@click.group()
def command() -> None:
    """Explain why two values do not compare."""


@command.command()
@click.argument("first", type=click.Path(exists=True, dir_okay=False))
@click.argument("second", type=click.Path(exists=True, dir_okay=False))
def diff(first: str, second: str) -> int:
    """List the protocol settings in which two results differ.

    FIRST and SECOND are result.json files. Exits with 1 where they differ.
    """
    from msgm_bench.boards import protocol_diff, read
    from msgm_bench.storage import single_line

    differences = protocol_diff(read(Path(first)), read(Path(second)))
    for difference in differences:
        echo(single_line(difference))
    if not differences:
        echo("the same protocols: values compare")
    return ExitCode.FAILED if differences else ExitCode.OK


@command.command()
def schema() -> None:
    """Print the JSON Schema of result.json."""
    import json

    from msgm_bench.api import Result

    echo(json.dumps(Result.model_json_schema(by_alias=True), indent=2, sort_keys=True))
