"""Leases on files, which end with their process: who holds one is alive and needs the file.

``flock`` takes no file of its own and no permission to write, and a kill releases it. Where the
platform or the file system has no such locks, nobody holds a lease.
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


def take_lease(path: Path) -> int | None:
    """A descriptor that holds the lease until it is closed; several processes may hold one.

    None where the file is not there, or somebody has claimed it to delete it.
    """
    try:
        descriptor = os.open(path, READ_FLAGS)
    except OSError:
        return None
    if _locks(descriptor, exclusive=False) and _is_still_at(path, descriptor):
        return descriptor
    os.close(descriptor)
    return None


@contextlib.contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Whether nobody holds a lease on the file; then nobody can take one inside the block."""
    try:
        descriptor = os.open(path, READ_FLAGS)
    except OSError:
        yield True
        return
    try:
        yield _locks(descriptor, exclusive=True)
    finally:
        os.close(descriptor)


def _locks(descriptor: int, *, exclusive: bool) -> bool:
    """Lock without waiting; true where there are no locks, too."""
    if _fcntl is None:
        return True
    try:
        _fcntl.flock(descriptor, (_fcntl.LOCK_EX if exclusive else _fcntl.LOCK_SH) | _fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_still_at(path: Path, descriptor: int) -> bool:
    """Whether the open file has not been deleted or replaced since."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False
