"""SHA-256 of files, known again while a file is untouched.

A file is untouched while device, inode, size and the times of its last change of content and of
status are equal. The system sets the last one at every change, and no program can set it back. A
file that changed within ``RACY_SECONDS`` before its status was read could change again at the very
same time, and is read anew at the next start, as git does. Where the system has no such time, as
Windows, files are read at every start.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msgm_bench import StorageError, atomic_write

RACY_SECONDS = 3.0
HASH = 32  # bytes
STATUS = 5  # int64: device, inode, size, two times in nanoseconds

Statuses = np.ndarray
"""``int64 [N, STATUS]``; zeros where a file must be read."""


def read_statuses(paths: Sequence[Path]) -> Statuses:
    """Status of each file; zeros where it changed just now or has none."""
    rows = np.zeros((len(paths), STATUS), dtype=np.int64)
    newest = time.time_ns() - int(RACY_SECONDS * 1e9)
    for i, path in enumerate(paths if os.name == "posix" else ()):
        try:
            status = path.stat()
        except OSError:
            continue
        if max(status.st_ctime_ns, status.st_mtime_ns) <= newest:
            inode = np.uint64(status.st_ino).astype(np.int64)
            times = (status.st_mtime_ns, status.st_ctime_ns)
            rows[i] = (status.st_dev, inode, status.st_size, *times)
    return rows


def known_hashes(index: Path, statuses: Statuses) -> list[bytes | None]:
    """Hash of each file by an index; None where the file is not untouched.

    An index that is not there, or damaged, knows no file.
    """
    unknown: list[bytes | None] = [None] * len(statuses)
    try:
        rows = np.load(index, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return unknown
    width = statuses.itemsize * STATUS
    if rows.dtype != np.uint8 or rows.shape != (len(statuses), width + HASH):
        return unknown
    before = np.ascontiguousarray(rows[:, :width]).view(np.int64)
    same = (before == statuses).all(1) & statuses.any(1)
    return [
        bytes(row[width:]) if is_same else None for row, is_same in zip(rows, same, strict=True)
    ]


def store_hashes(index: Path, statuses: Statuses, hashes: Sequence[bytes]) -> bool:
    """Write an index; whether that was possible. Without one, files are read again."""
    digests = np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, HASH)
    rows = np.concatenate([statuses.view(np.uint8), digests], axis=1)
    try:
        with atomic_write(index) as temporary, temporary.open("wb") as file:
            np.lib.format.write_array(file, rows)
    except StorageError:
        return False
    return True
