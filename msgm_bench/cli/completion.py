"""``msgm-bench completion``."""

from __future__ import annotations

import click

from msgm_bench.cli.terminal import echo


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    In bash or zsh: eval "$(msgm-bench completion bash)"; the same with zsh.
    """
    from click.shell_completion import get_completion_class

    from msgm_bench.cli.main import cli

    completion = get_completion_class(shell)
    assert completion is not None
    echo(completion(cli, {}, "msgm-bench", "_MSGM_BENCH_COMPLETE").source())
