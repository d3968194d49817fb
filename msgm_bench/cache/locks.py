"""Locks of stages: a file each, of which ``cache gc`` removes those that are no longer used.

Unlinking a lock's file while another process waits for it would let two processes hold "the" lock,
one by the old file and one by a new file. So every process that holds or waits for a lock has a
shared lease on one guard file, and files are removed only by who has claimed the guard.

Beside a lock lies the name of its holder, for those who wait. Only the lock excludes: the name of a
process that was killed stays until the next one holds the lock.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from msgm_bench.errors import StorageError
from msgm_bench.storage import claim, read_text, single_line, take_lease

GUARD = ".writable"


@contextlib.contextmanager
def hold_lock(
    folder: Path, key: str, on_wait: Callable[[str], object] | None = None
) -> Iterator[bool]:
    """Hold the lock of a stage inside the block.

    Args:
        folder: The folder of the locks, with the guard file in it.
        key: The stage's key.
        on_wait: Called with the holder's name before waiting for another process, as
            ``process 123 on HOST, since 2026-01-31 12:03 UTC``; None does not wait.

    Yields:
        Whether the lock is held: false only without ``on_wait``, where another process has it.
    """
    lease = take_lease(folder / GUARD, wait=True)
    lock, holder = filelock.FileLock(folder / f"{key}.lock"), folder / f"{key}.holder"
    try:
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            if on_wait is not None:
                on_wait(holder_name(holder))
                lock.acquire()
        if lock.is_locked:
            _write_name(holder)
        yield lock.is_locked
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):
                holder.unlink()
        lock.release()
        if lease is not None:
            os.close(lease)


def holder_name(holder: Path) -> str:
    """Name of the process that holds a lock, as far as it is known."""
    try:
        return single_line(read_text(holder, limit=1000)) or "another process"
    except StorageError:
        return "another process"


def _write_name(holder: Path) -> None:
    """Write this process's name; a disk without room for it does not end the work."""
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    name = f"process {os.getpid()} on {platform.node()}, since {since}"
    with contextlib.suppress(OSError):
        holder.write_text(name, encoding="utf-8")


def remove_unused_locks(folder: Path, is_used: Callable[[str], bool]) -> int:
    """Remove the files of locks whose key is not used, with their holders' names; their number.

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
                    path.with_suffix(".holder").unlink(missing_ok=True)
                    path.unlink()
                    count += 1
    return count
