"""Commands of plugins: entry points of the group ``msgm_bench.commands``."""

from __future__ import annotations

import importlib.metadata

import click

from msgm_bench.errors import PluginError, clean
from msgm_bench.quarantine import NAME, load

GROUP, OURS = "msgm_bench.commands", "msgm-bench"


def plugin_commands() -> dict[str, importlib.metadata.EntryPoint]:
    """Entry points by command name; names that a shell may misread are not commands."""
    entry_points = importlib.metadata.entry_points(group=GROUP)
    return {e.name: e for e in entry_points if NAME.fullmatch(e.name)}


def distribution_name(entry_point: importlib.metadata.EntryPoint) -> str:
    """The package that installed an entry point."""
    return clean(entry_point.dist.name) if entry_point.dist else "an unknown distribution"


def load_command(entry_point: importlib.metadata.EntryPoint) -> click.Command:
    """Import the command of a plugin.

    Raises:
        PluginError: It cannot be imported, or is no click command.
    """
    try:
        command = load(entry_point)
        if not isinstance(command, click.Command):
            raise PluginError(f"{entry_point.value} is {type(command).__name__}, no click command")
    except PluginError as error:
        owner = distribution_name(entry_point)
        raise PluginError(
            f"the command {entry_point.name!r} from {owner} is broken: {error.what}",
            hint="mend or uninstall that package; every other command works",
        ) from error
    return command


def short_help(entry_point: importlib.metadata.EntryPoint) -> str:
    """What the command of a plugin does, in a line, and whose it is."""
    owner = distribution_name(entry_point)
    try:
        text = clean(load_command(entry_point).get_short_help_str(limit=200))
    except PluginError:
        return f"Broken; from {owner}."
    if owner == OURS:
        return text
    return f"{text.rstrip('.') or 'A command'} (from {owner})."
