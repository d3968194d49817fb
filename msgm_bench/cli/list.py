"""``msgm-bench list``."""

from __future__ import annotations

from typing import Any

import click

from msgm_bench.cli.kinds import singular
from msgm_bench.cli.terminal import echo, echo_json


@click.command()
@click.argument("kind", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(kind: str | None, as_json: bool) -> None:
    """List the installed plugins and the packages that they come from.

    KIND is method, backbone, dataset, task, metric, ..., or its plural; all kinds without it.
    """
    from msgm_bench.cli.tables import print_table
    from msgm_bench.quarantine import stdout_to_stderr
    from msgm_bench.registry import KINDS, registry

    kinds = KINDS if kind is None else (f"{singular(kind)}s",)
    with stdout_to_stderr():
        plugins: dict[str, list[dict[str, Any]]] = {
            name: [
                {"name": e.cls.name, "summary": _summary(e.cls), "from": str(e.provenance)}
                for e in registry().entries(name)
            ]
            for name in kinds
        }
    if as_json:
        echo_json(plugins)
        return
    for name, entries in plugins.items():
        if entries or kind:
            rows = [(e["name"], e["summary"], e["from"].split(" (")[0]) for e in entries]
            print_table(("name", "summary", "from"), rows, name)
    for broken in registry().broken:
        echo(f"broken: {broken.provenance}: {broken.reason}", err=True)


def _summary(cls: Any) -> str:
    """What the plugin is for, and whether a run has it only where it is requested."""
    summary: str = cls.summary()
    on_request = getattr(cls, "on_request", False)
    return f"{summary} On request: --task {cls.name}." if on_request else summary
