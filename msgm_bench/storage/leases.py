"""Leases on files, which end with their process: its holder is alive and needs the file.

``flock`` needs no file of its own and no permission to write, and a kill releases it. Where the
platform or the file system has no such locks, no process holds a lease.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgm_bench.storage.readers import READ_FLAGS

try:
    _fcntl: Any = importlib.import_module("fcntl")
except ImportError:  # Windows
    _fcntl = None


def take_lease(path: Path, wait: bool = False) -> int | None:
    """A descriptor that holds a lease until it is closed; several processes may hold one.

    None where the file does not exist, or where another process has claimed it to delete it;
    ``wait`` waits for the end of the claim.
    """
    try:
        descriptor = os.open(path, READ_FLAGS)
    except OSError:
        return None
    if _lock(descriptor, exclusive=False, wait=wait) and _is_still_at(path, descriptor):
        return descriptor
    os.close(descriptor)
    return None


@contextlib.contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Whether no process holds a lease on the file; then none can take one inside the block."""
    try:
        descriptor = os.open(path, READ_FLAGS)
    except OSError:
        yield True
        return
    try:
        yield _lock(descriptor, exclusive=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, exclusive: bool, wait: bool = False) -> bool:
    """Lock a file, and say whether that worked; true where the platform has no locks, too."""
    if _fcntl is None:
        return True
    mode = _fcntl.LOCK_EX if exclusive else _fcntl.LOCK_SH
    try:
        _fcntl.flock(descriptor, mode if wait else mode | _fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_still_at(path: Path, descriptor: int) -> bool:
    """Whether ``path`` is still the open file, neither deleted nor replaced."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False
