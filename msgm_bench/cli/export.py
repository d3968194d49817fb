"""``msgm-bench export``."""

from __future__ import annotations

from pathlib import Path

import click

from msgm_bench.cli.options import RUN_FOLDER, base_option
from msgm_bench.cli.terminal import echo


@click.command()
@click.argument("run", type=RUN_FOLDER)
@click.argument("folder", type=click.Path())
@base_option
@click.option("--force", is_flag=True, help="Replace FOLDER and all that is in it.")
def command(run: str, folder: str, base: str | None, force: bool) -> None:
    """Write the model of a run for diffusers and other programs.

    RUN is a run folder. FOLDER gets the network with its averaged weights as diffusers saves it,
    the sampler, and a model card with the method, the data, the forgotten classes and the values.
    `--base FOLDER` starts a run from it. Of a training of a part of the network FOLDER gets the
    part (a LoRA, some weights), which `evaluate FOLDER --base DIR` scores; with --base, all of it.
    """
    from msgm_bench.report.export import export

    sha256 = export(Path(run), Path(folder), force, base)
    echo(f"{folder}: sha256 {sha256}")
