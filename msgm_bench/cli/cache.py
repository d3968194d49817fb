"""``msgm-bench cache``."""

from __future__ import annotations

import click

from msgm_bench.cli.terminal import echo


@click.group()
def command() -> None:
    """List and delete the stages of earlier runs in the cache.

    The cache is the folder MSGM_BENCH_CACHE, or a folder of the user's own. Results are not in it.
    """


@command.command()
def ls() -> None:
    """List finished stages with their sizes and times."""
    from msgm_bench.cache.cache import Cache
    from msgm_bench.cli.tables import print_table

    cache = Cache()
    entries = cache.entries()
    rows = [
        (e.record.name, e.path.name[:12], f"{e.size / 1e6:.1f} MB", f"{e.seconds:.1f} s")
        for e in entries
    ]
    print_table(("stage", "key", "size", "time"), rows, f"{cache.root}")
    echo(f"{len(rows)} stages, {sum(e.size for e in entries) / 1e6:.1f} MB")


@command.command()
@click.option("--older-than", default=30.0, show_default=True, help="Days since the last change.")
@click.option("--all", "everything", is_flag=True, help="Delete stages of any age.")
def gc(older_than: float, everything: bool) -> None:
    """Delete old stages and unfinished work.

    Stages that a running process needs stay. A run that needs a deleted stage computes it again.
    """
    from msgm_bench.cache.cache import Cache

    count, size = Cache().collect(0.0 if everything else older_than)
    echo(f"deleted {count} stages, {size / 1e6:.1f} MB")
