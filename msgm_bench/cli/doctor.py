"""``msgm-bench doctor``."""

from __future__ import annotations

import click

from msgm_bench.cli.exit_codes import ExitCode
from msgm_bench.cli.terminal import echo


@click.command()
def command() -> int:
    """Check this installation.

    Prints versions, devices, the cache, plugins, commands and data. Exits with 1 if something is
    broken.
    """
    from msgm_bench.registry import KINDS, registry

    _print_machine()
    checks = [_check_cache()]
    for kind in KINDS:
        echo(f"{kind}: {', '.join(registry().names(kind)) or 'none'}")
    checks += [_check_plugins(), _check_commands(), _check_data()]
    echo("all well" if all(checks) else "something is broken, see above")
    return ExitCode.OK if all(checks) else ExitCode.FAILED


def _print_machine() -> None:
    """Print versions and devices."""
    import platform

    import torch

    from msgm_bench import __version__
    from msgm_bench.cli.tables import print_table
    from msgm_bench.report.provenance import package_versions

    versions = {"msgm-bench": __version__, "python": platform.python_version()}
    print_table(("package", "version"), list((versions | package_versions()).items()), "Versions")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    echo(f"device: {', '.join(names) or 'CPU only'}")
    echo(f"CPU threads: {torch.get_num_threads()}")


def _check_cache() -> bool:
    """Print the cache folder; whether it can be used."""
    from msgm_bench.cache.cache import Cache
    from msgm_bench.errors import MsgmBenchError

    try:
        cache = Cache()
        echo(f"cache: {cache.root}{', read-only' if cache.read_only else ''}")
    except MsgmBenchError as error:
        echo(f"cache: {error}")
        return False
    return True


def _check_plugins() -> bool:
    """Print broken plugins; whether there are none."""
    from msgm_bench.registry import registry

    for broken in registry().broken:
        echo(f"broken plugin {broken.provenance}: {broken.reason}")
    return not registry().broken


def _check_commands() -> bool:
    """Import and print the commands of plugins; whether all of them work."""
    from msgm_bench.cli.main import COMMANDS
    from msgm_bench.cli.plugin_commands import distribution_name, load_command, plugin_commands
    from msgm_bench.errors import PluginError

    names, all_work = [], True
    for name, entry_point in sorted(plugin_commands().items()):
        try:
            if name in COMMANDS:
                owner = distribution_name(entry_point)
                raise PluginError(f"the command {name!r} from {owner} has a built-in one's name")
            load_command(entry_point)
        except PluginError as error:
            all_work = False
            echo(f"broken command: {error.what}")
        else:
            names.append(name)
    echo(f"commands of plugins: {', '.join(names) or 'none'}")
    return all_work


def _check_data() -> bool:
    """Print which datasets are here; whether every dataset answers.

    Files are looked for, not read; a dataset without published files is loaded.
    """
    from msgm_bench.errors import MsgmBenchError, PluginError
    from msgm_bench.quarantine import quarantined
    from msgm_bench.registry import registry

    all_answer = True
    for name in registry().names("datasets"):
        try:
            with quarantined():
                state = _data_state(name)
        except PluginError as error:
            if isinstance(error.__cause__, MsgmBenchError):
                state = f"not here: {error.__cause__}"
            else:
                all_answer = False
                state = f"broken: {error.what}"
        echo(f"data of {name}: {state}")
    return all_answer


def _data_state(name: str) -> str:
    from msgm_bench.cli.data import file_state
    from msgm_bench.registry import registry

    dataset = registry().create("datasets", name)
    if dataset.sources():
        return ": ".join(file_state(dataset))
    data = dataset.load()
    return f"{len(data.train)} train, {len(data.test)} test"
