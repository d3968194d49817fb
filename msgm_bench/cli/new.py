"""``msgm-bench new``."""

from __future__ import annotations

from pathlib import Path

import click

from msgm_bench.cli.kinds import KINDS, singular
from msgm_bench.cli.terminal import echo

COMMAND = "command"


@click.command()
@click.argument("kind")
@click.argument("name")
@click.option(
    "--dir",
    "place",
    default=".",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder in which the plugin's own folder, msgm-bench-NAME, is made.",
)
def command(kind: str, name: str, place: Path) -> None:
    """Write a plugin to start from: a KIND (method, metric, ..., or command) with this NAME.

    It is a folder with a working module, its test, a README and a pyproject.toml, in the current
    folder or in that of --dir: install it with pip, and msgm-bench knows it.
    """
    from msgm_bench.cli.scaffold import write

    kind = singular(kind, (*KINDS, COMMAND))
    folder = write(kind, name, place)
    lines = [f"pip install -e {folder}", f"msgm-bench check {kind} {name}"]
    if kind == COMMAND:
        lines[1] = f"msgm-bench {name} --help"
    echo("\n".join([f"written: {folder}; next:", *(f"  {line}" for line in lines)]))
