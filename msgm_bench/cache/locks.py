"""Locks of stages: a file each, of which ``cache gc`` removes those that are no longer used.

Unlinking a lock's file while another process waits for it would let two processes hold "the" lock,
one by the old file and one by a new file. So every process that holds or waits for a lock has a
shared lease on one guard file, and files are removed only by who has claimed the guard.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from msgm_bench.storage import claim, take_lease

GUARD = ".writable"


@contextlib.contextmanager
def hold_lock(
    folder: Path, key: str, on_wait: Callable[[], object] | None = None
) -> Iterator[bool]:
    """Hold the lock of a stage inside the block.

    Args:
        folder: The folder of the locks, with the guard file in it.
        key: The stage's key.
        on_wait: Called before waiting for another process; None does not wait.

    Yields:
        Whether the lock is held: false only without ``on_wait``, where another process has it.
    """
    lease = take_lease(folder / GUARD, wait=True)
    lock = filelock.FileLock(folder / f"{key}.lock")
    try:
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            if on_wait is not None:
                on_wait()
                lock.acquire()
        yield lock.is_locked
    finally:
        lock.release()
        if lease is not None:
            os.close(lease)


def remove_unused_locks(folder: Path, is_used: Callable[[str], bool]) -> int:
    """Remove the files of locks whose key is not used; their number.

    Removes nothing while any process holds or waits for a lock.

    Args:
        folder: The folder of the locks, with the guard file in it.
        is_used: Whether a key still has a finished or an unfinished stage.
    """
    count = 0
    with claim(folder / GUARD) as is_free:
        for path in folder.glob("*.lock") if is_free else ():
            if not is_used(path.stem):
                with contextlib.suppress(OSError):
                    path.unlink()
                    count += 1
    return count
