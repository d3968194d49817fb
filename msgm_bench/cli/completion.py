"""``msgm-bench completion``."""

from __future__ import annotations

import click

from msgm_bench.cli.terminal import say


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell: eval "$(msgm-bench completion bash)"."""
    from click.shell_completion import get_completion_class

    from msgm_bench.cli.main import cli

    found = get_completion_class(shell)
    assert found is not None
    say(found(cli, {}, "msgm-bench", "_MSGM_BENCH_COMPLETE").source())
