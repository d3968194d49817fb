"""Output to a terminal: names are text, never markup, escapes or encoding errors."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any, TextIO

import click

from msgm_bench.cli.exit_codes import ExitCode
from msgm_bench.errors import clean


def echo(text: object = "", *, err: bool = False) -> None:
    """Print a line to stdout or stderr; terminal escapes become visible text."""
    stream = sys.stderr if err else sys.stdout
    try:
        click.echo(clean(str(text)), file=stream)
    except BrokenPipeError:
        discard_output(stream)


def echo_json(value: Any) -> None:
    """Print JSON in ASCII without a single control character."""
    echo(json.dumps(value, indent=2).replace("\x7f", "\\u007f"))


def discard_output(stream: Any) -> None:
    """Redirect ``stream``, whose reader has gone, to the null device."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as null_device:
        os.dup2(null_device.fileno(), stream.fileno())


def configure_streams() -> None:
    """Make stdout and stderr accept any text; a closed stream becomes the null device."""
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - stays open
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def flush_streams(code: int) -> int:
    """Write buffered output; ``code``, or ``ExitCode.FAILED`` where that fails (a full disk)."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            discard_output(stream)
        except OSError as error:
            discard_output(stream)
            echo(f"error: the output cannot be written: {error.strerror}", err=True)
            code = code or ExitCode.FAILED
    return code


class _CleanFormatter(logging.Formatter):
    """Log lines without terminal escapes."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, or the lines of a traceback."""
        return clean(super().format(record))


def configure_logging(verbose: bool) -> None:
    """Show warnings and errors of the log; ``verbose`` adds library warnings and tracebacks."""
    handler = logging.StreamHandler()
    handler.setFormatter(_CleanFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.raiseExceptions = verbose
    logging.captureWarnings(verbose)
    logging.getLogger("msgm_bench").setLevel(logging.DEBUG if verbose else logging.WARNING)
    for name in ("data", "grid"):  # downloads and decoding take minutes; workers' runs end
        level = logging.DEBUG if verbose else logging.INFO
        logging.getLogger(f"msgm_bench.{name}").setLevel(level)
    if not verbose:
        warnings.simplefilter("ignore")
