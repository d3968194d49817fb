"""Ctrl-C and SIGTERM take effect between two steps, where a checkpoint is complete."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupt:
    """A request to stop.

    Attributes:
        is_requested: Whether a signal has arrived.
    """

    is_requested = False

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Record the first signal; raise KeyboardInterrupt at the second."""
        if self.is_requested:
            raise KeyboardInterrupt
        self.is_requested = True


@contextlib.contextmanager
def deferred() -> Iterator[Interrupt]:
    """Delay SIGINT and SIGTERM inside the block, which checks ``is_requested``."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interrupt.handle) for number in signals}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
