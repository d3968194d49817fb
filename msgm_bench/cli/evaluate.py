"""``msgm-bench evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from msgm_bench.cli.options import evaluation_options, plugin_options


@click.command()
@click.argument("model_dir", type=click.Path(exists=True, file_okay=False))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed.")
@evaluation_options
def command(model_dir: str, **given: Any) -> int:
    """Score a trained model: a run folder, or the model/ folder in it, from here or elsewhere."""
    from msgm_bench.cli.run_and_show import run_cells, show_plan
    from msgm_bench.experiment.model_io import model_folder, read_card
    from msgm_bench.experiment.spec import parse_spec
    from msgm_bench.quarantine import stdout_to_stderr

    missing = [f"--{name}" for name in ("dataset", "forget") if not given[name]]
    if missing:
        raise click.UsageError(f"missing {', '.join(missing)}")
    out, as_json, dry = given.pop("out"), given.pop("as_json"), given.pop("dry_run")
    folder = model_folder(Path(model_dir).absolute())
    card = read_card(folder)
    named = {
        "model": str(folder),
        "method": "external",
        "backbone": card.backbone,
        "backbone_params": card.options,
        "conditional": card.data.classes is not None,
    }
    with stdout_to_stderr():
        specs = [parse_spec(plugin_options(given) | given | named)]
    return show_plan(specs) if dry else run_cells(specs, Path(out), as_json)
