"""``msgm-bench check``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from msgm_bench.cli.exit_codes import ExitCode
from msgm_bench.cli.kinds import singular
from msgm_bench.cli.options import KEY_VALUE
from msgm_bench.cli.terminal import echo, echo_json

if TYPE_CHECKING:
    from msgm_bench.testing.checks import Outcome


@click.command()
@click.argument("kind")
@click.argument("name")
@click.option("-p", "params", type=KEY_VALUE, multiple=True, help="Option of the plugin.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(kind: str, name: str, params: tuple[tuple[str, Any], ...], as_json: bool) -> int:
    """Run the conformance kit on the installed plugin NAME of a KIND (method, metric, ...).

    Every check passes, fails with a sentence on what is wrong, or is skipped for a reason; the
    exit code is 1 where one fails. Toy data and toy models take seconds on a CPU; options are
    those of the plugin's preset `quick`, unless -p says otherwise.
    """
    from msgm_bench.quarantine import stdout_to_stderr
    from msgm_bench.registry import registry

    plural = f"{singular(kind)}s"
    with stdout_to_stderr():
        from msgm_bench.testing.kits import check_all

        entry = registry().entry(plural, name)
        entry.cls.create(dict(params))  # wrong options are the user's, not the plugin's
        outcomes = check_all(plural, entry.cls, dict(params))
    header = {"kind": singular(kind), "name": name, "from": str(entry.provenance)}
    if not as_json:
        echo(f"{header['kind']} {name}, from {header['from']}\n")
    done = list(_collected(outcomes, quiet=as_json))
    counts = Counter(outcome.status for outcome in done)
    if as_json:
        from dataclasses import asdict

        echo_json(header | {"checks": [asdict(outcome) for outcome in done]})
    else:
        echo(f"\n{', '.join(f'{counts[s]} {s}' for s in ('passed', 'failed', 'skipped'))}")
    return ExitCode.FAILED if counts["failed"] else ExitCode.OK


def _collected(outcomes: Iterator[Outcome], quiet: bool) -> Iterator[Outcome]:
    """The outcomes, each printed as soon as it is there."""
    for outcome in outcomes:
        if not quiet:
            words = f"{outcome.name}: {outcome.reason or outcome.description}"
            echo(f"{outcome.status:<8} {words}")
        yield outcome
