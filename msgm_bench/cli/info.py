"""``msgm-bench info``."""

from __future__ import annotations

import inspect
from typing import Any

import click


@click.command()
@click.argument("name")
def command(name: str) -> None:
    """Explain a plugin: what it does, its source, its options and their defaults."""
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
    click.echo(f"{cls.name} ({entry.kind.removesuffix('s')}), from {entry.provenance}\n")
    click.echo(inspect.getdoc(cls) or "")
    if cls.citation:
        click.echo(f"\nSource: {cls.citation}")
    for attribute in ("regimes", "needs", "tasks", "samplers"):
        value = getattr(cls, attribute, None)
        if value and isinstance(value, tuple | frozenset | str):
            said = value if isinstance(value, str) else ", ".join(sorted(value))
            click.echo(f"{attribute.capitalize()}: {said}")
    rows = [
        (key, _type(field), _default(field), field.description or "")
        for key, field in cls.Config.model_fields.items()
    ]
    if rows:
        grid(("option", "type", "default", "meaning"), rows, "\nOptions")
    for preset, settings in cls.presets.items():
        click.echo(f"preset {preset}: {dict(settings)}")
    click.echo("")


def _type(field: Any) -> str:
    text = getattr(field.annotation, "__name__", "") or str(field.annotation)
    if "[" in str(field.annotation) or "|" in str(field.annotation):
        text = str(field.annotation).replace("typing.", "")
    bounds = [str(limit) for limit in field.metadata]
    return " ".join([text.replace("NoneType", "None"), *bounds])


def _default(field: Any) -> str:
    return "required" if field.is_required() else str(field.default)
