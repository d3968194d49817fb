"""``msgm-bench run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from msgm_bench.cli.options import (
    KEY_VALUE,
    base_option,
    by_plugin,
    conditional_option,
    evaluation_options,
    plugin_options,
)

if TYPE_CHECKING:
    from msgm_bench.experiment.spec import RunSpec


@click.command()
@click.argument("spec_file", required=False, type=click.Path(exists=True, dir_okay=False))
@click.option("--method", "methods", multiple=True, help="Name of a method; repeat for a grid.")
@click.option("--backbone", "backbones", multiple=True, help="Name of a backbone; may repeat.")
@conditional_option
@base_option
@click.option("--seed", "seeds", multiple=True, type=click.IntRange(0), help="May repeat.  [0]")
@click.option("--train-seed", type=click.IntRange(0), help="Seed of weights and base model.")
@click.option("--unlearn-seed", type=click.IntRange(0), help="Seed of the method's batches.")
@click.option("--regime", type=click.Choice(["retrain", "finetune"]), help="Start afresh or not.")
@click.option("--steps", type=click.IntRange(1), help="Replaces every training budget.")
@click.option(
    "--passes", type=click.IntRange(1), help="Budget in passes, of all but baselines and base."
)
@click.option("-p", "params", type=KEY_VALUE, multiple=True, help="Option of the methods.")
@click.option("-b", "backbone_params", type=KEY_VALUE, multiple=True, help="Of the backbone.")
@click.option("--executor", help="Name of an executor; one cell after the other without it.")
@click.option("--track", "trackers", multiple=True, help="Name of a tracker; may repeat.")
@click.option(
    "-x", "helper_params", type=KEY_VALUE, multiple=True, help="Of executor or tracker: NAME.key=v."
)
@evaluation_options
@click.pass_context
def command(ctx: click.Context, /, spec_file: str | None, **given: Any) -> int:
    """Train, unlearn, score: one cell or a grid.

    SPEC_FILE repeats a run from the spec.yaml in its folder. Repeated methods, backbones and
    seeds make a grid that shares its base models. -p key=value goes to every selected method
    that has the option, -p METHOD.key=value to one. Repeating a command resumes it.
    """
    from msgm_bench.cli.run_and_show import helpers, run_cells, show_plan
    from msgm_bench.quarantine import stdout_to_stderr

    out, as_json, dry = given.pop("out"), given.pop("as_json"), given.pop("dry_run")
    executor, trackers = given.pop("executor"), given.pop("trackers")
    of = by_plugin(
        given.pop("helper_params"), "-x {}: write NAME.key=value, such as local.workers=2"
    )
    with stdout_to_stderr():
        specs = _from_file(ctx, spec_file) if spec_file else _from_options(given)
        chosen, tracked = helpers(executor, trackers, of)
    if dry:
        return show_plan(specs)
    return run_cells(specs, Path(out), as_json, chosen, tracked)


def _from_file(ctx: click.Context, path: str) -> list[RunSpec]:
    from msgm_bench.cli.run_and_show import read_spec

    loose = ("out", "as_json", "dry_run", "spec_file", "executor", "trackers", "helper_params")
    source = click.core.ParameterSource.DEFAULT
    set_ = [n for n in ctx.params if n not in loose and ctx.get_parameter_source(n) != source]
    if set_:
        raise click.UsageError(f"SPEC_FILE says it all; leave out {', '.join(sorted(set_))}")
    return [read_spec(Path(path))]


def _from_options(given: dict[str, Any]) -> list[RunSpec]:
    from msgm_bench.experiment.spec import expand

    missing = [
        f"--{name.rstrip('s')}"
        for name in ("dataset", "forget", "methods", "backbones")
        if not given[name]
    ]
    if missing:
        raise click.UsageError(f"missing {', '.join(missing)} (or a SPEC_FILE)")
    return expand(
        given.pop("methods"),
        given.pop("backbones"),
        given.pop("seeds") or (0,),
        dict(given.pop("params")),
        **plugin_options(given),
        **given,
    )
