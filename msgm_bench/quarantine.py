"""Calls of plugins' code: a failure names the plugin, and stdout stays the program's."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import logging
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from msgm_bench.errors import MsgmBenchError, PluginError, clean

log = logging.getLogger(__name__)

MAX_REASON = 500  # letters
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
NAMES = "a to z, 0 to 9, '_', '.', '-', a letter or digit first, at most 64 of them"


@contextlib.contextmanager
def quarantined() -> Iterator[None]:
    """Import a plugin: any failure is a ``PluginError``, and what it prints goes to stderr.

    Failures are all exceptions, SystemExit and a KeyboardInterrupt that the plugin raises among
    them; the user's Ctrl-C stops the program.

    Raises:
        PluginError: With the reason, on one line and without terminal escapes.
        KeyboardInterrupt: The user pressed Ctrl-C.
    """
    with _interrupts() as pressed, stdout_to_stderr():
        try:
            yield
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and pressed():
                raise
            raise PluginError(reason_of(error)) from error


@contextlib.contextmanager
def errors_of(owner: str) -> Iterator[None]:
    """Name the plugin whose code fails inside the block.

    Args:
        owner: The plugin and its part, such as ``method 'mine', skip``.

    Raises:
        PluginError: The code raised an exception that is no ``MsgmBenchError``.
    """
    try:
        yield
    except MsgmBenchError:
        raise
    except Exception as error:
        log.debug("%s", "".join(traceback.format_exception(error)))
        raise PluginError(f"{owner}: {reason_of(error)}") from error


def with_owner(function: Callable[..., Any], owner: str) -> Callable[..., Any]:
    """``function``, whose errors name ``owner`` (``errors_of``)."""

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        with errors_of(owner):
            return function(*arguments)

    return call


def load(entry_point: importlib.metadata.EntryPoint) -> Any:
    """The object that an entry point names.

    Raises:
        PluginError: It cannot be imported.
    """
    with quarantined():
        return entry_point.load()


def reason_of(error: BaseException) -> str:
    """``Type: message`` of any exception, on one line of at most ``MAX_REASON`` letters."""
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException:  # noqa: BLE001 - not even its message works
        text = f"{type(error).__name__}, whose message cannot be shown"
    line = clean(" ".join(text.split()))
    return line if len(line) <= MAX_REASON else f"{line[:MAX_REASON]} ..."


@contextlib.contextmanager
def _interrupts() -> Iterator[Any]:
    """Yield a function that is true after a Ctrl-C, and false after a raised KeyboardInterrupt."""
    received: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    is_default = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not is_default:
        yield lambda: True  # another handler is installed
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """``print`` and libraries that write to descriptor 1 land on stderr inside the block."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a closed stream
            sys.stdout.flush()
        with contextlib.suppress(OSError):
            saved = os.dup(1)
            stack.callback(os.close, saved)
            os.dup2(2, 1)
            stack.callback(os.dup2, saved, 1)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def checked_name(name: Any, what: str) -> str:
    """``name``, if it matches ``NAME``.

    Raises:
        PluginError: It is no text, too long, or has other letters.
    """
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise PluginError(f"the name of {what} is {clean(repr(name)):.100}", NAMES)
    return name
