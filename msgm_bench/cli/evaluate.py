"""``msgm-bench evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from msgm_bench.cli.options import (
    KEY_VALUE,
    FolderType,
    base_option,
    conditional_option,
    evaluation_options,
    pop_plugin_options,
    text_option,
)

MODEL_FOLDER = FolderType("a run folder (with result.json and model/), or the model/ folder in it")


@click.command()
@click.argument("model", type=click.Path(exists=True))
@base_option
@click.option("--backbone", metavar="NAME", help="Backbone of a model that another program made.")
@click.option("-b", "backbone_params", type=KEY_VALUE, multiple=True, help="Option of it.")
@conditional_option
@text_option
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    metavar="N",
    help="Seed of all draws.",
)
@evaluation_options
def command(model: str, **params: Any) -> int:
    """Score a trained model.

    MODEL is a run folder, or the model/ folder in it, from this machine or another. A folder or
    file of another program needs --backbone, --conditional or --text: a model that diffusers
    saved, or, with --base, a LoRA or some weights of the base's network.
    """
    from msgm_bench.cli.run_and_show import print_plan, run_and_show
    from msgm_bench.experiment.spec import parse_spec
    from msgm_bench.quarantine import stdout_to_stderr

    if params["backbone"] is None:
        MODEL_FOLDER.convert(model, None, None)
    missing = [f"--{name}" for name in ("dataset", "forget") if not params[name]]
    if missing:
        raise click.UsageError(f"missing {', '.join(missing)}")
    out, as_json, dry_run = params.pop("out"), params.pop("as_json"), params.pop("dry_run")
    with stdout_to_stderr():
        fields = _model_fields(model, params)
        specs = [parse_spec(pop_plugin_options(params) | params | fields)]
    return print_plan(specs) if dry_run else run_and_show(specs, Path(out), as_json)


def _model_fields(model: str, params: dict[str, Any]) -> dict[str, Any]:
    """Fields of a ``RunSpec`` that say what is evaluated: by the model's card, or by the options.

    Raises:
        UsageError: The model has no card and no backbone, or options contradict the card.
    """
    from msgm_bench.experiment.model_card import is_foreign, model_folder, read_card

    folder = model_folder(Path(model).absolute())
    fields: dict[str, Any] = {"model": str(folder), "method": "external"}
    if is_foreign(folder) and params["backbone"] is not None:
        return fields
    card = read_card(folder)
    fields |= {
        "backbone": card.backbone,
        "conditional": card.data.classes is not None,
        "text": card.data.prompts is not None,
    }
    for name in ("backbone", "conditional", "text"):
        value = fields[name]
        if params[name] and params[name] != value:
            raise click.UsageError(f"--{name} {params[name]}: the model's card says {value}")
    if params["backbone_params"]:
        raise click.UsageError("-b beside a model whose card has the options of its backbone")
    return fields | {"backbone_params": card.options}
