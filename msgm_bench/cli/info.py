"""``msgm-bench info``."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import click

from msgm_bench.cli.options import (
    KEY_VALUE,
    base_option,
    cell_options,
    conditional_option,
    plugin_options,
)
from msgm_bench.cli.terminal import say, say_json

if TYPE_CHECKING:
    from msgm_bench.experiment.spec import RunSpec


@click.command()
@click.argument("name", required=False)
@click.option("--method", help="Name of a method; all of them without it.")
@click.option("--backbone", help="Name of a backbone.")
@conditional_option
@base_option
@click.option("--regime", type=click.Choice(["retrain", "finetune"]), help="Start afresh or not.")
@click.option("--steps", type=click.IntRange(1), help="Replaces every training budget.")
@click.option("-p", "params", type=KEY_VALUE, multiple=True, help="Option of the method.")
@click.option("-b", "backbone_params", type=KEY_VALUE, multiple=True, help="Of the backbone.")
@cell_options
@click.option("--no-measure", is_flag=True, help="Leave out the estimate of time.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, /, name: str | None, **given: Any) -> None:
    """Explain the plugin NAME, or what a run would do.

    With NAME: what it does, its source, its options and their defaults. With --dataset and
    --backbone: network, process, budgets, tasks and metrics of such a run, and how long it would
    take here, by timing a few real steps. The data need not be on this machine.
    """
    source = click.core.ParameterSource.DEFAULT
    told = [key for key in ctx.params if ctx.get_parameter_source(key) != source]
    if name is not None:
        if others := sorted(set(told) - {"name"}):
            raise click.UsageError(f"NAME says it all; leave out {', '.join(others)}")
        _explain(name)
        return
    missing = [f"--{key}" for key in ("dataset", "backbone") if not given[key]]
    if missing:
        wanted = "" if told else "NAME, or "
        raise click.UsageError(f"missing {wanted}{' and '.join(missing)}")
    _foretell(given)


def _foretell(given: dict[str, Any]) -> None:
    """What a run would do."""
    from dataclasses import asdict

    from msgm_bench.cli.estimate import show
    from msgm_bench.estimate.run_estimate import outline
    from msgm_bench.quarantine import stdout_to_stderr

    as_json, measure = given.pop("as_json"), not given.pop("no_measure")
    with stdout_to_stderr():
        found = outline(_asked(given), measure)
    if as_json:
        say_json(asdict(found))
    else:
        show(found)


def _asked(given: dict[str, Any]) -> RunSpec:
    """The request, as far as it goes."""
    from msgm_bench.experiment.spec import expand, parse_spec

    method, params = given.pop("method"), dict(given.pop("params"))
    common = plugin_options(given) | given | {"forget": given["forget"] or ()}
    if method:
        return expand([method], [common.pop("backbone")], [0], params, **common)[0]
    if params:
        raise click.UsageError("-p is for a method: name it with --method")
    return parse_spec(common | {"method": ""})


def _explain(name: str) -> None:
    from msgm_bench.errors import UnknownNameError
    from msgm_bench.registry import KINDS, Entry, registry

    found: list[Entry] = [
        entry for kind in KINDS for entry in registry().entries(kind) if entry.cls.name == name
    ]
    if not found:
        names = {entry.cls.name for kind in KINDS for entry in registry().entries(kind)}
        raise UnknownNameError("plugin", name, names)
    for entry in found:
        _show(entry)


def _show(entry: Any) -> None:
    from msgm_bench.cli.tables import grid

    cls = entry.cls
    say(f"{cls.name} ({entry.kind.removesuffix('s')}), from {entry.provenance}\n")
    say(inspect.getdoc(cls) or "")
    if cls.citation:
        say(f"\nSource: {cls.citation}")
    for attribute in ("regimes", "needs", "tasks", "samplers"):
        value = getattr(cls, attribute, None)
        if value and isinstance(value, tuple | frozenset | str):
            said = value if isinstance(value, str) else ", ".join(sorted(value))
            say(f"{attribute.capitalize()}: {said}")
    rows = [
        (key, _type(field), _default(field), field.description or "")
        for key, field in cls.options_type.model_fields.items()
    ]
    if rows:
        grid(("option", "type", "default", "meaning"), rows, "\nOptions")
    for preset, settings in cls.presets.items():
        say(f"preset {preset}: {dict(settings)}")
    say("")


def _type(field: Any) -> str:
    text = getattr(field.annotation, "__name__", "") or str(field.annotation)
    if "[" in str(field.annotation) or "|" in str(field.annotation):
        text = str(field.annotation).replace("typing.", "")
    bounds = [str(limit) for limit in field.metadata]
    return " ".join([text.replace("NoneType", "None"), *bounds])


def _default(field: Any) -> str:
    return "required" if field.is_required() else str(field.default)
