"""``msgm-bench export``."""

from __future__ import annotations

from pathlib import Path

import click

from msgm_bench.cli.terminal import say


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.argument("folder", type=click.Path())
@click.option("--force", is_flag=True, help="Replace FOLDER and all that is in it.")
def command(run: str, folder: str, force: bool) -> None:
    """Write the trained model of the run folder RUN so that other programs load it.

    FOLDER gets the network with its averaged weights as diffusers saves it, what is needed to
    sample from it, and a model card that tells method, data, what was forgotten, and what was
    measured. --base FOLDER starts from it.
    """
    from msgm_bench.report.export import export

    sha256 = export(Path(run), Path(folder), force)
    say(f"{folder}: sha256 {sha256}")
