"""Terminals, pipes and the last net: whatever is printed, and wherever, and whatever goes wrong."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import click
import pytest
from cli_harness import only, tiny

from msgm_bench.cli import info as info_command
from msgm_bench.cli import main as command_line
from msgm_bench.cli import terminal
from msgm_bench.cli.main import call
from msgm_bench.errors import StorageError

PROGRAM = "from msgm_bench.cli.main import main; main()"
SHOW = (
    "from msgm_bench.cli import main, tables, terminal\n"
    "import sys, click\n"
    "terminal.configure_streams()\n"
    "terminal.echo('NLL \\u2193 \\U0001f408 \\udce9')\n"
    "tables.print_table(('NLL \\u2193',), [('\\U0001f408 \\udce9',)], 'title \\u2192')\n"
    "sys.exit(terminal.flush_streams(0))\n"
)


def program(code, *arguments, **env):
    """A Python process: its exit code and what it printed."""
    environment = os.environ | env
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_encodings_that_lack_letters(env):
    """Letters that the output cannot take are replaced; nothing fails."""
    code, out, err = program(SHOW, **env)
    assert (code, err) == (0, b"")
    assert b"NLL" in out
    assert b"title" in out


@pytest.mark.parametrize(
    ("arguments", "redirect"),
    [
        *(("--help", redirect) for redirect in (">&-", ">&- 2>&-", "2>&-", "| head -c 5")),
        *(("list", redirect) for redirect in (">&- 2>&-", "| head -c 5")),
    ],
)
def test_closed_streams(arguments, redirect):
    """A reader that has gone, or was never there, is no failure."""
    line = f'set -o pipefail; "{sys.executable}" -c "{PROGRAM}" {arguments} {redirect}'
    done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_under_the_output():
    """What cannot be written is an error, with exit 1 and one line."""
    line = f'"{sys.executable}" -c "{PROGRAM}" list > /dev/full'
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, timeout=60, text=True, check=False
    )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_does_not_stop_the_run(fast, cache, bench, tmp_path, monkeypatch):
    """A pipe that closes while a run reports does not fail the run."""

    def broken(*arguments, **options):
        raise BrokenPipeError

    monkeypatch.setattr(click, "echo", broken)
    assert bench(*tiny(out=tmp_path / "runs"))[0] == 0
    assert only(tmp_path / "runs")["status"] == "ok"


class Silent(BaseException):
    """An error that cannot even say what it is."""

    def __str__(self):
        """Fail."""
        raise RuntimeError


def recurse(*arguments):
    """Until the stack is full."""
    return recurse(*arguments)


UNEXPECTED = [
    ValueError("\x1b[31mred\nand more"),
    RecursionError("deep"),
    MemoryError(),
    Silent(),
    SystemExit(0),
    SystemExit("a library's last words"),
    OSError(5, "Input/output error"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    AssertionError(),
    KeyError("\x1b"),
]


@pytest.mark.parametrize("error", UNEXPECTED, ids=lambda error: type(error).__name__)
def test_the_last_net(error, bench, monkeypatch):
    """Anything unexpected is one line and exit 1; the traceback comes with ``-v``."""

    def fail(name):
        raise error

    monkeypatch.setattr(info_command, "_print_plugins", fail)
    code, out, err = bench("info", "obt")
    assert (code, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith("error: unexpected ")
    assert "msgm-bench -v shows where" in line
    assert "\x1b" not in line


def test_the_stack_is_full(bench, monkeypatch):
    """A real RecursionError is caught, too."""
    monkeypatch.setattr(info_command, "_print_plugins", recurse)
    code, _, err = bench("info", "obt")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "RecursionError" in err


def test_the_traceback_under_verbose(monkeypatch, bench):
    """``-v`` shows where, cleaned; without it the next command is quiet again."""

    def fail(name):
        raise ZeroDivisionError("\x1b[31m")

    monkeypatch.setattr(info_command, "_print_plugins", fail)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    _, _, err = bench("-v", "info", "obt")
    assert "Traceback" in err
    assert "test_terminal.py" in err
    assert "\x1b" not in err
    _, _, err = bench("info", "obt")
    assert "Traceback" not in err


def test_errors_while_a_command_is_imported(bench, monkeypatch):
    """A command that cannot be imported is one line, too, and other commands work."""
    monkeypatch.setitem(sys.modules, "msgm_bench.cli.doctor", None)
    code, _, err = bench("doctor")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "ModuleNotFoundError" in err or "ImportError" in err
    assert bench("--help")[0] == 0


class Point:
    """An entry point of a plugin's command."""

    name, dist, value = "extra", None, "extra:command"

    def __init__(self, command):
        self.command = command

    def load(self):
        """The command, or an error at import."""
        if isinstance(self.command, BaseException):
            raise self.command
        return self.command


def plugin_command(monkeypatch, plugin):
    """Install a command ``extra``."""
    points = {"extra": Point(plugin)}
    monkeypatch.setattr(command_line, "plugin_commands", lambda: points)


@pytest.mark.parametrize("error", [*UNEXPECTED, "no command"], ids=lambda e: type(e).__name__)
def test_a_plugins_command_that_is_broken(error, bench, monkeypatch):
    """It says so and fails alone."""
    plugin_command(monkeypatch, error)
    code, _, err = bench("extra")
    assert code == 1
    assert "the command 'extra'" in err
    assert "is broken" in err
    assert "Traceback" not in err
    assert bench("--help")[0] == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SystemExit(3), 3),
        (SystemExit(), 0),
        (SystemExit("words"), 1),
        (KeyboardInterrupt(), 130),
        (StorageError("full"), 1),
        (ZeroDivisionError(), 1),
    ],
    ids=str,
)
def test_exit_codes_of_a_plugins_command(error, code, bench, monkeypatch):
    """``sys.exit`` is a command's own word; Ctrl-C stays 130; the rest is the net's."""

    @click.command()
    def command():
        raise error

    plugin_command(monkeypatch, command)
    exit_code, _, err = bench("extra")
    assert exit_code == code
    assert "Traceback" not in err


def test_log_lines_are_clean(monkeypatch, capsys):
    """Warnings that name untrusted files do not reach the terminal as they are."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert call(["--version"]) == 0
    terminal.configure_logging(verbose=False)
    logging.getLogger("msgm_bench.test").warning("file %s", "\x1b[31m\u202e")
    err = capsys.readouterr().err
    assert "file \\x1b[31m\\u202e" in err


def test_json_stays_json(capsys):
    """Every control character is escaped as JSON escapes it."""
    text = "".join(map(chr, range(0x250))) + "\u202e\ud800\U0001f408"
    terminal.echo_json({"text": text})
    out = capsys.readouterr().out
    assert json.loads(out) == {"text": text}
    assert out.isascii()
    assert all(letter == "\n" or letter.isprintable() for letter in out)
