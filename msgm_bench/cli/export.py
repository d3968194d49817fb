"""``msgm-bench export``."""

from __future__ import annotations

from pathlib import Path

import click

from msgm_bench.cli.options import RUN_FOLDER, base_option
from msgm_bench.cli.terminal import echo
from msgm_bench.errors import UsageError

MODEL, RECORD, CARD = "diffusers", "every-eval-ever", "model-index"


@click.command()
@click.argument("run", type=RUN_FOLDER)
@click.argument("target", type=click.Path())
@click.option(
    "--format",
    "file_format",
    type=click.Choice([MODEL, RECORD, CARD]),
    default=MODEL,
    show_default=True,
    help="What to write: the model, or its result for other programs.",
)
@base_option
@click.option(
    "--developer",
    metavar="NAME",
    help=f"Of {RECORD}: who trained and scored the model, such as a name on the Hub.",
)
@click.option("--force", is_flag=True, help="Replace the folder or file that is there.")
def command(
    run: str, target: str, file_format: str, base: str | None, developer: str | None, force: bool
) -> None:
    """Write the model of a run, or its result, for other programs.

    RUN is a run folder. TARGET is a folder: it gets the network with its averaged weights as
    diffusers saves it, the sampler, and a model card with the method, the data, the forgotten
    classes and the values.
    `--base FOLDER` starts a run from it. Of a training of a part of the network it gets the
    part (a LoRA, some weights), which `evaluate TARGET --base DIR` scores; with --base, all of it.

    With `--format every-eval-ever` the folder gets the result as a record of that schema, in the
    place that its datastore has for it. With `--format model-index` TARGET is a file: the values as
    the metadata of a Hugging Face model card.
    """
    for name, value, formats in (("--base", base, MODEL), ("--developer", developer, RECORD)):
        if value is not None and file_format != formats:
            raise UsageError(f"{name} with --format {file_format}", f"it is for {formats} alone")
    if file_format == MODEL:
        from msgm_bench.report.export import export

        sha256 = export(Path(run), Path(target), force, base)
        echo(f"{target}: sha256 {sha256}")
        return
    from msgm_bench.report.results_export import export_model_index, export_record

    if file_format == CARD:
        export_model_index(Path(run), Path(target), force)
        echo(target)
        return
    if developer is None:
        raise UsageError(
            f"--format {RECORD} needs who trained and scored the model",
            hint="--developer NAME, such as your name on the Hugging Face hub",
        )
    echo(str(export_record(Path(run), Path(target), developer, force)))
