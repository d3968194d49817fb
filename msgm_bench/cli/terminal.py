"""The way from texts to a terminal: names are text, never markup, escapes or encoding errors."""

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

from msgm_bench.errors import clean


def say(text: object = "", *, err: bool = False) -> None:
    """Print a line; what looks like a terminal's escape becomes visible."""
    stream = sys.stderr if err else sys.stdout
    try:
        click.echo(clean(str(text)), file=stream)
    except BrokenPipeError:
        drop(stream)


def say_json(value: Any) -> None:
    """Print JSON in ASCII without a single control character."""
    say(json.dumps(value, indent=2).replace("\x7f", "\\u007f"))


def drop(stream: Any) -> None:
    """Send what is still written to ``stream`` nowhere: its reader has gone."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def prepare() -> None:
    """Make both streams take any text; a stream that was closed takes it to nowhere."""
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - stays open
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def finish(code: int) -> int:
    """Write out what is buffered; ``code``, or 1 if that fails, on a full disk say."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            drop(stream)
        except OSError as error:
            drop(stream)
            say(f"error: the output cannot be written: {error.strerror}", err=True)
            code = code or 1
    return code


class _CleanFormatter(logging.Formatter):
    """Log lines without terminal escapes."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, or the lines of a traceback."""
        return clean(super().format(record))


def listen(verbose: bool) -> None:
    """Show warnings and errors of the log; all warnings and tracebacks where ``verbose``."""
    handler = logging.StreamHandler()
    handler.setFormatter(_CleanFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.raiseExceptions = verbose
    logging.captureWarnings(verbose)
    logging.getLogger("msgm_bench").setLevel(logging.DEBUG if verbose else logging.WARNING)
    for name in ("data", "grid"):  # downloads, decoding: minutes; cells of workers, as they end
        level = logging.DEBUG if verbose else logging.INFO
        logging.getLogger(f"msgm_bench.{name}").setLevel(level)
    if not verbose:
        warnings.simplefilter("ignore")
