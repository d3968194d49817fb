"""``msgm-bench run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from msgm_bench.cli.options import (
    KEY_VALUE,
    base_option,
    conditional_option,
    evaluation_options,
    group_by_plugin,
    pop_plugin_options,
    regime_option,
    steps_option,
    text_option,
)

if TYPE_CHECKING:
    from msgm_bench.experiment.spec import RunSpec


@click.command()
@click.argument("spec_file", required=False, type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--method", "methods", metavar="NAME", multiple=True, help="Method; repeat it for a grid."
)
@click.option(
    "--backbone", "backbones", metavar="NAME", multiple=True, help="Backbone; may be repeated."
)
@conditional_option
@text_option
@base_option
@click.option(
    "--seed",
    "seeds",
    multiple=True,
    type=click.IntRange(0),
    metavar="N",
    help="Seed of all draws, 0 by default; may be repeated.",
)
@click.option(
    "--train-seed", type=click.IntRange(0), metavar="N", help="Seed of weights and base model."
)
@click.option(
    "--unlearn-seed", type=click.IntRange(0), metavar="N", help="Seed of the method's batches."
)
@regime_option
@steps_option
@click.option(
    "--passes",
    type=click.IntRange(1),
    metavar="N",
    help="Budget of the methods in passes through networks; wins over --steps for them. "
    "Base model and baselines train for their steps.",
)
@click.option("-p", "params", type=KEY_VALUE, multiple=True, help="Option of the methods.")
@click.option(
    "--training",
    "training_params",
    type=KEY_VALUE,
    multiple=True,
    help="Setting of the methods' training, such as learning_rate; not of baselines.",
)
@click.option(
    "-b", "backbone_params", type=KEY_VALUE, multiple=True, help="Option of the backbone."
)
@click.option(
    "--record-samples",
    type=click.IntRange(0, 100),
    metavar="N",
    default=0,
    help="Draw samples N times along the training, from the same noise; no value changes by it.",
)
@click.option(
    "--executor", metavar="NAME", help="Executor of the grid; without it runs take turns."
)
@click.option("--track", "trackers", metavar="NAME", multiple=True, help="Tracker; may repeat.")
@click.option(
    "-x",
    "helper_params",
    type=KEY_VALUE,
    metavar="NAME.KEY=VALUE",
    multiple=True,
    help="Option of the executor or of a tracker.",
)
@evaluation_options
@click.pass_context
def command(ctx: click.Context, /, spec_file: str | None, **params: Any) -> int:
    """Train a base model, unlearn, score: one run, or a grid of runs.

    SPEC_FILE is the spec.yaml of a run folder, and repeats that run. Several methods, backbones
    or seeds make a grid that shares base models. `-p key=value` is for every method that has the
    option, `-p METHOD.key=value` for one method; so is `--training`. The same command resumes a
    stopped run. A `--task` that no run of the grid can do is refused.
    """
    from msgm_bench.cli.run_and_show import create_helpers, print_plan, run_and_show
    from msgm_bench.experiment.grid import worker_specs
    from msgm_bench.quarantine import stdout_to_stderr

    out, as_json, dry_run = params.pop("out"), params.pop("as_json"), params.pop("dry_run")
    executor, trackers = params.pop("executor"), params.pop("trackers")
    helper_options = group_by_plugin(
        params.pop("helper_params"), "-x {}: write NAME.key=value, such as local.workers=2"
    )
    with stdout_to_stderr():
        specs = _specs_of_file(ctx, spec_file) if spec_file else specs_of_options(params)
        helpers = create_helpers(executor, trackers, helper_options)
        specs = specs if executor is None else worker_specs(specs)
    # a run of a grid may have skipped a task that another one did: its spec.yaml repeats it all
    repeats = spec_file is not None
    if dry_run:
        return print_plan(specs, allow_skipped_tasks=repeats)
    return run_and_show(specs, Path(out), as_json, *helpers, allow_skipped_tasks=repeats)


def _specs_of_file(ctx: click.Context, path: str) -> list[RunSpec]:
    from msgm_bench.cli.run_and_show import read_spec

    allowed = ("out", "as_json", "dry_run", "spec_file", "executor", "trackers", "helper_params")
    source = click.core.ParameterSource.DEFAULT
    extra = [
        name
        for name in ctx.params
        if name not in allowed and ctx.get_parameter_source(name) != source
    ]
    if extra:
        raise click.UsageError(f"SPEC_FILE describes the run: leave out {', '.join(sorted(extra))}")
    return [read_spec(Path(path))]


def specs_of_options(params: dict[str, Any]) -> list[RunSpec]:
    """The requests of a grid from the options of the command."""
    from msgm_bench.experiment.spec import expand

    missing = [
        f"--{name.rstrip('s')}"
        for name in ("dataset", "forget", "methods", "backbones")
        if not params[name]
    ]
    if missing:
        raise click.UsageError(f"missing {', '.join(missing)} (or a SPEC_FILE)")
    return expand(
        params.pop("methods"),
        params.pop("backbones"),
        params.pop("seeds") or (0,),
        dict(params.pop("params")),
        dict(params.pop("training_params")),
        **pop_plugin_options(params),
        **params,
    )
