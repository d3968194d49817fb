"""The ``msgm-bench`` command: a command's module is imported when it is called, not before."""

from __future__ import annotations

import errno
import importlib
import io
import logging
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from msgm_bench import __version__
from msgm_bench.cli import terminal
from msgm_bench.cli.exit_codes import ExitCode
from msgm_bench.cli.plugin_commands import load_command, plugin_commands, short_help
from msgm_bench.errors import (
    MsgmBenchError,
    PluginError,
    RankError,
    UsageError,
    did_you_mean,
    shorten,
)
from msgm_bench.launch import leads
from msgm_bench.quarantine import reason_of
from msgm_bench.signals import sigterm_as_interrupt

log = logging.getLogger(__name__)

COMMANDS = {
    "run": "Train a base model, unlearn, score: one run, or a grid.",
    "evaluate": "Score a trained model.",
    "tune": "Choose options of a board's methods, with as many trials for each.",
    "sweep": "Measure quality over a setting of the evaluation.",
    "export": "Write the model of a run, or its result, for others.",
    "compare": "Print a ranked table of results.",
    "explain": "Explain how a number came about.",
    "diff": "Name what two results differ in.",
    "variance": "Say which seeds make a value vary, and how much the items do.",
    "list": "List the installed plugins.",
    "info": "Explain a plugin, or describe a run before it begins.",
    "new": "Write a plugin to start from.",
    "check": "Run the conformance kit on a plugin.",
    "data": "List, download and check the files of datasets.",
    "board": "Build and check leaderboards.",
    "submit": "Pack a run for somebody else's leaderboard.",
    "submission": "Check packed runs.",
    "protocol": "Explain why two values do not compare.",
    "cache": "List and delete the stages of earlier runs.",
    "doctor": "Check this installation.",
    "completion": "Print the completion script of a shell.",
}


class LazyGroup(click.Group):
    """Names and one-line helps of all commands, known without an import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Built-in commands, then those of plugins."""
        return [*COMMANDS, *sorted(set(plugin_commands()) - set(COMMANDS))]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command; None for a broken plugin's while the shell completes a line.

        Raises:
            PluginError: The command of a plugin is broken.
        """
        if name in COMMANDS:
            module = importlib.import_module(f"msgm_bench.cli.{name}")
            command: click.Command = module.command
            return command
        entry_point = plugin_commands().get(name)
        if entry_point is None:
            return None
        try:
            return load_command(entry_point)
        except PluginError:
            if ctx.resilient_parsing:
                return None
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; ``sys.exit`` is the exit code of a plugin's command only."""
        try:
            return super().invoke(ctx)
        except SystemExit as error:
            if ctx.invoked_subcommand not in COMMANDS:
                raise
            raise RuntimeError(f"a library ended the program with {error.code!r}") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands."""
        rows = list(COMMANDS.items())
        for name, entry_point in sorted(plugin_commands().items()):
            rows.append((name, short_help(entry_point)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of the arguments.

        Raises:
            click.UsageError: It is unknown; the nearest name is suggested.
        """
        if args and self.get_command(ctx, args[0]) is None:
            near = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(f"unknown command {shorten(args[0])!r}{near}", ctx)
        return super().resolve_command(ctx, args)


def _set_verbose(ctx: click.Context, param: click.Parameter, verbose: bool) -> None:
    """Configure the log before a command is imported, so that a failing import is logged."""
    if not ctx.resilient_parsing:
        terminal.configure_logging(verbose)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="msgm-bench")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_verbose,
    help="Show warnings of libraries, and the traceback of an unexpected error.",
)
def cli() -> None:
    """The benchmark for unlearning in score-based and diffusion models.

    One command trains, unlearns, scores and ranks; `msgm-bench list` shows the names:

    msgm-bench run --dataset NAME --forget CLASSES --backbone NAME --method NAME
    """


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the installed command: errors are a message and an exit code."""
    terminal.configure_streams()
    sys.exit(terminal.flush_streams(call(args)))


def call(args: Sequence[str] | None = None) -> int:
    """Run a command line; its exit code."""
    try:
        with sigterm_as_interrupt():
            code: Any = cli.main(args, prog_name="msgm-bench", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        return int(exit_.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _print_once("\nstopped; repeat the command to resume")
        return ExitCode.INTERRUPTED
    except click.ClickException as error:
        _print_once(_click_message(error))
        return ExitCode.USAGE
    except MsgmBenchError as error:
        if error.__cause__ is not None:
            log.debug("its cause", exc_info=error.__cause__)
        _print_once(f"error: {error}", by_all=isinstance(error, RankError))
        return ExitCode.USAGE if isinstance(error, UsageError) else ExitCode.FAILED
    except SystemExit as exit_:
        return _code_of_exit(exit_)
    except BrokenPipeError:
        return ExitCode.OK
    except BaseException as error:  # noqa: BLE001 - the last net: one line, never a traceback
        log.debug("%s", traceback.format_exc())
        terminal.echo(f"error: unexpected {reason_of(error)}; msgm-bench -v shows where", err=True)
        return ExitCode.FAILED
    return code if isinstance(code, int) else ExitCode.OK


def _print_once(message: str, by_all: bool = False) -> None:
    """Print to stderr what the processes of a launcher all have to report, or each for itself."""
    if by_all or leads():
        terminal.echo(message, err=True)


def _click_message(error: click.ClickException) -> str:
    """Usage and message in click's own form."""
    text = io.StringIO()
    error.show(text)
    return text.getvalue().rstrip("\n")


def _code_of_exit(exit_: SystemExit) -> int:
    """Exit code of a plugin's ``sys.exit``; click exits with 1 where its reader has gone."""
    if isinstance(exit_.__context__, OSError) and exit_.__context__.errno == errno.EPIPE:
        return ExitCode.OK
    if isinstance(exit_.code, int | None):
        return exit_.code or ExitCode.OK
    terminal.echo(f"error: {exit_.code}", err=True)
    return ExitCode.FAILED
