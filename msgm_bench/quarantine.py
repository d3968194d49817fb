"""Imports of strangers' code: whatever they do, the program goes on and its stdout is its own."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from msgm_bench.errors import PluginError, clean

LONGEST_REASON = 500  # letters
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
NAMES = "a to z, 0 to 9, '_', '.', '-', a letter or digit first, at most 64 of them"


@contextlib.contextmanager
def quarantined() -> Iterator[None]:
    """Run a stranger's code: any failure is a ``PluginError``, what is printed goes to stderr.

    Anything that it raises is meant, SystemExit and other BaseExceptions too, and a
    KeyboardInterrupt of its own; a user's Ctrl-C stops the program as ever.

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


def load(entry_point: importlib.metadata.EntryPoint) -> Any:
    """What an entry point names.

    Raises:
        PluginError: It cannot be imported, and why.
    """
    with quarantined():
        return entry_point.load()


def reason_of(error: BaseException) -> str:
    """``Type: message`` of any exception, on one line, harmless and not too long."""
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException:  # noqa: BLE001 - not even its message works
        text = f"{type(error).__name__}, whose message cannot be shown"
    line = clean(" ".join(text.split()))
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]} ..."


@contextlib.contextmanager
def _interrupts() -> Iterator[Any]:
    """Tell a Ctrl-C from a KeyboardInterrupt that was merely raised."""
    came: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not ours:
        yield lambda: True  # another handler decides: nothing is held back
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield lambda: bool(came)
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
    """``name``, if it is what a name may be.

    Raises:
        PluginError: It is no text, too long, or holds other letters.
    """
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise PluginError(f"the name of {what} is {clean(repr(name)):.100}", NAMES)
    return name
