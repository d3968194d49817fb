"""``msgm-bench list``."""

from __future__ import annotations

from typing import Any

import click

from msgm_bench.cli.terminal import say, say_json


@click.command()
@click.argument("kind", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(kind: str | None, as_json: bool) -> None:
    """Show what is installed, and from where: methods, backbones, datasets, metrics, ..."""
    from msgm_bench.cli.tables import grid
    from msgm_bench.errors import UnknownNameError
    from msgm_bench.quarantine import stdout_to_stderr
    from msgm_bench.registry import KINDS, registry

    if kind is not None and kind not in KINDS:
        raise UnknownNameError("kind", kind, KINDS)
    kinds = KINDS if kind is None else (kind,)
    with stdout_to_stderr():
        found: dict[str, list[dict[str, Any]]] = {
            each: [
                {"name": e.cls.name, "summary": e.cls.summary(), "from": str(e.provenance)}
                for e in registry().entries(each)
            ]
            for each in kinds
        }
    if as_json:
        say_json(found)
        return
    for each, entries in found.items():
        if entries or kind:
            rows = [(e["name"], e["summary"], e["from"].split(" (")[0]) for e in entries]
            grid(("name", "summary", "from"), rows, each)
    for broken in registry().broken:
        say(f"broken: {broken.provenance}: {broken.reason}", err=True)
