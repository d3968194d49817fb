"""``msgm-bench cache``."""

from __future__ import annotations

import click

from msgm_bench.cli.terminal import say


@click.group()
def command() -> None:
    """Look at and clean the cache."""


@command.command()
def ls() -> None:
    """List finished stages with their sizes and times."""
    from msgm_bench.cache.cache import Cache
    from msgm_bench.cli.tables import grid

    cache = Cache()
    entries = cache.entries()
    rows = [
        (e.record.name, e.path.name[:12], f"{e.size / 1e6:.1f} MB", f"{e.seconds:.1f} s")
        for e in entries
    ]
    grid(("stage", "key", "size", "took"), rows, f"{cache.root}")
    say(f"{len(rows)} stages, {sum(e.size for e in entries) / 1e6:.1f} MB")


@command.command()
@click.option("--older-than", default=30.0, show_default=True, help="Days since last written.")
@click.option("--all", "everything", is_flag=True, help="Delete everything.")
def gc(older_than: float, everything: bool) -> None:
    """Delete old stages and abandoned work; what another process uses is left alone."""
    from msgm_bench.cache.cache import Cache

    count, size = Cache().collect(0.0 if everything else older_than)
    say(f"deleted {count} stages, {size / 1e6:.1f} MB")
