"""``msgm-bench doctor``."""

from __future__ import annotations

import click

from msgm_bench.cli.terminal import say


@click.command()
def command() -> int:
    """Check this installation: versions, device, plugins, cache; exit 1 if anything is broken."""
    from msgm_bench.registry import KINDS, registry

    _machine()
    sound = _cache()
    for kind in KINDS:
        say(f"{kind}: {', '.join(registry().names(kind)) or 'none'}")
    _data()
    for broken in registry().broken:
        sound = False
        say(f"broken plugin {broken.provenance}: {broken.reason}")
    say("all well" if sound else "something is broken, see above")
    return 0 if sound else 1


def _machine() -> None:
    """Versions and devices."""
    import platform

    import torch

    from msgm_bench import __version__
    from msgm_bench.cli.tables import grid
    from msgm_bench.report.provenance import packages

    versions = {"msgm-bench": __version__, "python": platform.python_version()} | packages()
    grid(("package", "version"), list(versions.items()), "Versions")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    say(f"device: {', '.join(names) or 'CPU only'}")
    say(f"CPU threads: {torch.get_num_threads()}")


def _cache() -> bool:
    """Whether the cache folder can be used."""
    from msgm_bench.cache.cache import Cache
    from msgm_bench.errors import MsgmBenchError

    try:
        cache = Cache()
        say(f"cache: {cache.root}{', read-only' if cache.read_only else ''}")
    except MsgmBenchError as error:
        say(f"cache: {error}")
        return False
    return True


def _data() -> None:
    """Which datasets are here; those that come in files are looked for, not read."""
    from msgm_bench.cli.data import state
    from msgm_bench.errors import MsgmBenchError
    from msgm_bench.registry import registry

    for name in registry().names("datasets"):
        dataset = registry().create("datasets", name)
        if dataset.sources():
            say(f"data of {name}: {': '.join(state(dataset))}")
            continue
        try:
            data = dataset.load()
            say(f"data of {name}: {len(data.train)} train, {len(data.test)} test")
        except MsgmBenchError as error:
            say(f"data of {name}: not here: {error}")
