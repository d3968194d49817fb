"""SIGTERM ends what Ctrl-C ends: by an exception, so that nothing half-written stays."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


def _never() -> bool:
    return False


@contextlib.contextmanager
def sigterm_as_interrupt(is_ignored: Callable[[], bool] = _never) -> Iterator[None]:
    """A block that SIGTERM ends as Ctrl-C does: by the handler of SIGINT, if Python has one.

    Schedulers, ``timeout`` and ``kill`` send SIGTERM, which without a handler ends Python on the
    spot. Outside the main thread the block is as it was.

    Args:
        is_ignored: Whether a SIGTERM is of no account now; then it stays so after the block, too.
    """

    def handle(signum: int, frame: FrameType | None) -> None:
        if is_ignored():
            return
        interrupt = signal.getsignal(signal.SIGINT)
        if callable(interrupt):
            interrupt(signal.SIGINT, frame)
        else:  # a command in the background has it ignored
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        if not is_ignored():
            signal.signal(signal.SIGTERM, before)
