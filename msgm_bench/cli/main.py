"""The ``msgm-bench`` command. Subcommands are imported when they are called, not before."""

from __future__ import annotations

import errno
import importlib
import importlib.metadata
import io
import logging
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from msgm_bench import __version__
from msgm_bench.cli import terminal
from msgm_bench.errors import MsgmBenchError, PluginError, UsageError, clean, did_you_mean
from msgm_bench.quarantine import NAME, load, reason_of

log = logging.getLogger(__name__)

PLUGIN_COMMANDS = "msgm_bench.commands"
COMMANDS = {
    "run": "Train, unlearn, score: one cell or a grid.",
    "evaluate": "Score a trained model.",
    "export": "Write a trained model for diffusers.",
    "compare": "Put results side by side.",
    "list": "Show what is installed, and from where.",
    "info": "Explain a plugin, or what a run would do.",
    "new": "Write a plugin to start from.",
    "check": "Run the conformance kit on a plugin.",
    "data": "List, fetch and check the files of the datasets.",
    "board": "Build and check leaderboards.",
    "protocol": "Explain why two values do not compare.",
    "cache": "Look at and clean the cache.",
    "doctor": "Check this installation.",
    "completion": "Print the shell completion script.",
}
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


class LazyGroup(click.Group):
    """Knows names and one-line helps of all commands without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Built-in commands first, then those of plugins."""
        return [*COMMANDS, *sorted(set(_plugin_commands()) - set(COMMANDS))]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import one command."""
        if name in COMMANDS:
            module = importlib.import_module(f"msgm_bench.cli.{name}")
            command: click.Command = module.command
            return command
        entry_point = _plugin_commands().get(name)
        return None if entry_point is None else _plugin_command(entry_point, ctx)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; of a plugin's command alone ``sys.exit`` is the exit code."""
        try:
            return super().invoke(ctx)
        except SystemExit as error:
            if ctx.invoked_subcommand not in COMMANDS:
                raise
            raise RuntimeError(f"a library ended the program with {error.code!r}") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, from the static texts."""
        rows = list(COMMANDS.items())
        for name, entry_point in sorted(_plugin_commands().items()):
            rows.append((name, f"From {_owner(entry_point)}."))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for an unknown one."""
        if args and self.get_command(ctx, args[0]) is None:
            near = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(f"unknown command {args[0]!r}{near}", ctx)
        return super().resolve_command(ctx, args)


def _plugin_commands() -> dict[str, importlib.metadata.EntryPoint]:
    """Commands of plugins; names that nobody could type safely are left out."""
    entry_points = importlib.metadata.entry_points(group=PLUGIN_COMMANDS)
    return {e.name: e for e in entry_points if NAME.fullmatch(e.name)}


def _owner(entry_point: importlib.metadata.EntryPoint) -> str:
    return clean(entry_point.dist.name) if entry_point.dist else "an unknown distribution"


def _plugin_command(
    entry_point: importlib.metadata.EntryPoint, ctx: click.Context
) -> click.Command | None:
    """The command of a plugin; None for a broken one while the shell completes a line.

    Raises:
        PluginError: It cannot be imported, or is no command.
    """
    try:
        command = load(entry_point)
        if not isinstance(command, click.Command):
            raise PluginError(f"{entry_point.value} is {type(command).__name__}, no click command")
    except PluginError as error:
        if ctx.resilient_parsing:
            return None
        raise PluginError(
            f"the command {entry_point.name!r} from {_owner(entry_point)} is broken: {error.what}",
            hint="mend or uninstall that package; every other command works",
        ) from error
    return command


def _set_verbose(ctx: click.Context, param: click.Parameter, verbose: bool) -> None:
    """Before a command is imported, so that what fails there can be shown."""
    if not ctx.resilient_parsing:
        terminal.listen(verbose)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="msgm-bench")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_verbose,
    help="Show warnings of libraries, and where an unexpected error comes from.",
)
def cli() -> None:
    """The benchmark for unlearning in score-based and diffusion models.

    One command trains, unlearns, scores and ranks; `msgm-bench list` shows the names:

    msgm-bench run --dataset NAME --forget CLASSES --backbone NAME --method NAME
    """


def main(args: Sequence[str] | None = None) -> None:
    """Entry point: errors become one message and an exit code, never a traceback."""
    terminal.prepare()
    sys.exit(terminal.finish(call(args)))


def call(args: Sequence[str] | None = None) -> int:
    """Run a command line; its exit code."""
    try:
        code: Any = cli.main(args, prog_name="msgm-bench", standalone_mode=False)
    except click.exceptions.Exit as done:
        return int(done.exit_code)
    except (KeyboardInterrupt, click.Abort):
        terminal.say("\nstopped; repeat the command to go on where it was", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        terminal.say(_shown(error), err=True)
        return USAGE
    except MsgmBenchError as error:
        if error.__cause__ is not None:
            log.debug("its cause", exc_info=error.__cause__)
        terminal.say(f"error: {error}", err=True)
        return USAGE if isinstance(error, UsageError) else FAILED
    except SystemExit as done:
        return _exit_code(done)
    except BrokenPipeError:
        return OK
    except BaseException as error:  # noqa: BLE001 - the last net: one line, never a traceback
        log.debug("%s", traceback.format_exc())
        terminal.say(f"error: unexpected {reason_of(error)}; msgm-bench -v shows where", err=True)
        return FAILED
    return code if isinstance(code, int) else OK


def _shown(error: click.ClickException) -> str:
    """Usage and message, as click shows them."""
    text = io.StringIO()
    error.show(text)
    return text.getvalue().rstrip("\n")


def _exit_code(done: SystemExit) -> int:
    """The code of a plugin's command; click itself ends with 1 where nobody reads its output."""
    if isinstance(done.__context__, OSError) and done.__context__.errno == errno.EPIPE:
        return OK
    if isinstance(done.code, int | None):
        return done.code or OK
    terminal.say(f"error: {done.code}", err=True)
    return FAILED
