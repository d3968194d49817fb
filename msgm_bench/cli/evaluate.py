"""``msgm-bench evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from msgm_bench.cli.options import FolderType, evaluation_options, pop_plugin_options

MODEL_FOLDER = FolderType("a run folder (with result.json and model/), or the model/ folder in it")


@click.command()
@click.argument("model_dir", type=MODEL_FOLDER)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    metavar="N",
    help="Seed of all draws.",
)
@evaluation_options
def command(model_dir: str, **params: Any) -> int:
    """Score a trained model.

    MODEL_DIR is a run folder, or the model/ folder in it, from this machine or another.
    """
    from msgm_bench.cli.run_and_show import print_plan, run_and_show
    from msgm_bench.experiment.model_card import model_folder, read_card
    from msgm_bench.experiment.spec import parse_spec
    from msgm_bench.quarantine import stdout_to_stderr

    missing = [f"--{name}" for name in ("dataset", "forget") if not params[name]]
    if missing:
        raise click.UsageError(f"missing {', '.join(missing)}")
    out, as_json, dry_run = params.pop("out"), params.pop("as_json"), params.pop("dry_run")
    folder = model_folder(Path(model_dir).absolute())
    card = read_card(folder)
    fields = {
        "model": str(folder),
        "method": "external",
        "backbone": card.backbone,
        "backbone_params": card.options,
        "conditional": card.data.classes is not None,
        "text": card.data.prompts is not None,
    }
    with stdout_to_stderr():
        specs = [parse_spec(pop_plugin_options(params) | params | fields)]
    return print_plan(specs) if dry_run else run_and_show(specs, Path(out), as_json)
