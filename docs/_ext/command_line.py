"""The command line with each command under the name that a user types.

The program imports a command when it is called, and all of them are functions of one name; the
reference needs their names.
"""

from __future__ import annotations

import copy

import click

from msgm_bench.cli.main import cli as program


def with_names(group: click.Group) -> click.Group:
    """A group that holds copies of the commands of ``group``, each with its name."""
    context = click.Context(group, **group.context_settings)
    named = click.Group(name="msgm-bench", help=group.help, params=group.params)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            raise RuntimeError(f"the command {name!r} is listed and not there")
        renamed = copy.copy(command)
        renamed.name = name
        named.add_command(renamed)
    return named


cli = with_names(program)
