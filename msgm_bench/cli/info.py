"""``msgm-bench info``."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import click

from msgm_bench.cli.options import (
    KEY_VALUE,
    base_option,
    conditional_option,
    pop_plugin_options,
    regime_option,
    run_options,
    steps_option,
    text_option,
)
from msgm_bench.cli.terminal import echo, echo_json

if TYPE_CHECKING:
    from msgm_bench.experiment.spec import RunSpec


@click.command()
@click.argument("name", required=False)
@click.option("--method", metavar="NAME", help="Method; all methods without it.")
@click.option("--backbone", metavar="NAME", help="Backbone.")
@conditional_option
@text_option
@base_option
@regime_option
@steps_option
@click.option("-p", "params", type=KEY_VALUE, multiple=True, help="Option of the method.")
@click.option(
    "-b", "backbone_params", type=KEY_VALUE, multiple=True, help="Option of the backbone."
)
@run_options
@click.option("--no-measure", is_flag=True, help="Leave out the estimate of time.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, /, name: str | None, **params: Any) -> None:
    """Explain a plugin, or describe a run before it begins.

    With NAME, a plugin of any kind: its purpose, source, options and defaults. With --dataset and
    --backbone: network, process, budgets, tasks and metrics of the run, and its time on this
    machine, estimated from a few real steps within half a minute. Nothing is downloaded.
    """
    source = click.core.ParameterSource.DEFAULT
    chosen = {key for key in ctx.params if ctx.get_parameter_source(key) != source}
    if name is not None:
        if others := sorted(chosen - {"name"}):
            raise click.UsageError(f"NAME stands alone: leave out {', '.join(others)}")
        _print_plugins(name)
        return
    missing = [f"--{key}" for key in ("dataset", "backbone") if not params[key]]
    if missing:
        alternative = "" if chosen else "NAME, or "
        raise click.UsageError(f"missing {alternative}{' and '.join(missing)}")
    _print_estimate(params)


def _print_estimate(params: dict[str, Any]) -> None:
    """Print the estimate of a run, as text or JSON."""
    from dataclasses import asdict

    from msgm_bench.cli.estimate import print_estimate
    from msgm_bench.estimate.run_estimate import estimate_run
    from msgm_bench.quarantine import stdout_to_stderr

    as_json, measure = params.pop("as_json"), not params.pop("no_measure")
    with stdout_to_stderr():
        estimate = estimate_run(_partial_spec(params), measure)
    if as_json:
        echo_json(asdict(estimate))
    else:
        print_estimate(estimate)


def _partial_spec(params: dict[str, Any]) -> RunSpec:
    """The request, in which method and forgotten classes may be open."""
    from msgm_bench.experiment.spec import expand, parse_spec

    method, method_options = params.pop("method"), dict(params.pop("params"))
    common = pop_plugin_options(params) | params | {"forget": params["forget"] or ()}
    if method:
        return expand([method], [common.pop("backbone")], [0], method_options, **common)[0]
    if method_options:
        raise click.UsageError("-p is for a method: name it with --method")
    return parse_spec(common | {"method": ""})


def _print_plugins(name: str) -> None:
    """Explain every plugin of this name; one name may stand for plugins of several kinds."""
    from msgm_bench.errors import UnknownNameError
    from msgm_bench.registry import KINDS, registry

    installed = [entry for kind in KINDS for entry in registry().entries(kind)]
    entries = [entry for entry in installed if entry.cls.name == name]
    if not entries:
        raise UnknownNameError("plugin", name, {entry.cls.name for entry in installed})
    for entry in entries:
        _print_plugin(entry)


def _print_plugin(entry: Any) -> None:
    """Print purpose, source, declarations, options and presets."""
    from msgm_bench.cli.tables import print_table

    cls = entry.cls
    echo(f"{cls.name} ({entry.kind.removesuffix('s')}), from {entry.provenance}\n")
    echo(inspect.getdoc(cls) or "")
    if cls.citation:
        echo(f"\nSource: {cls.citation}")
    for attribute in ("regimes", "needs", "tasks", "samplers"):
        value = getattr(cls, attribute, None)
        if value and isinstance(value, tuple | frozenset | str):
            text = value if isinstance(value, str) else ", ".join(sorted(value))
            echo(f"{attribute.capitalize()}: {text}")
    rows = [
        (key, _type(field), _default(field), field.description or "")
        for key, field in cls.options_type.model_fields.items()
    ]
    if rows:
        print_table(("option", "type", "default", "meaning"), rows, "\nOptions")
    if space := getattr(cls, "search_space", {}):
        choices = [(key, str(choice)) for key, choice in space.items()]
        print_table(("option", "choices"), choices, "\nTuned by `msgm-bench tune`")
    for preset, settings in cls.presets.items():
        echo(f"preset {preset}: {dict(settings)}")
    echo("")


def _type(field: Any) -> str:
    """Type and bounds of an option."""
    text = getattr(field.annotation, "__name__", "") or str(field.annotation)
    if "[" in str(field.annotation) or "|" in str(field.annotation):
        text = str(field.annotation).replace("typing.", "")
    bounds = [str(limit) for limit in field.metadata]
    return " ".join([text.replace("NoneType", "None"), *bounds])


def _default(field: Any) -> str:
    return "required" if field.is_required() else str(field.default)
