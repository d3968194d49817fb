"""``msgm-bench protocol``."""

from __future__ import annotations

from pathlib import Path

import click

from msgm_bench.cli.terminal import say


@click.group()
def command() -> None:
    """Explain why two values do not compare."""


@command.command()
@click.argument("first", type=click.Path(exists=True, dir_okay=False))
@click.argument("second", type=click.Path(exists=True, dir_okay=False))
def diff(first: str, second: str) -> int:
    """List the protocol settings in which two result.json files differ; exit 1 if any."""
    from msgm_bench.boards import protocol_diff, read
    from msgm_bench.storage import single_line

    differences = protocol_diff(read(Path(first)), read(Path(second)))
    for difference in differences:
        say(single_line(difference))
    if not differences:
        say("the same protocols: values compare")
    return 1 if differences else 0


@command.command()
def schema() -> None:
    """Print the JSON Schema of result.json."""
    import json

    from msgm_bench.api import Result

    say(json.dumps(Result.model_json_schema(by_alias=True), indent=2, sort_keys=True))
