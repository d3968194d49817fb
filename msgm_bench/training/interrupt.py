"""Ctrl-C and SIGTERM at a step's boundary, so that nothing half-done is stored."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupt:
    """Whether the user asked to stop."""

    asked = False

    def ask(self, signum: int, frame: FrameType | None) -> None:
        """First time: remember. Second time: stop at once."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextlib.contextmanager
def deferred() -> Iterator[Interrupt]:
    """Hold SIGINT and SIGTERM back inside the block; the block looks at ``asked``."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    handled = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interrupt.ask) for number in handled}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
