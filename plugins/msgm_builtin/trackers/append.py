"""Files to which several processes append lines."""

from __future__ import annotations

import contextlib
import importlib
import os
from pathlib import Path
from typing import Any

from msgm_bench import StorageError

try:
    _fcntl: Any = importlib.import_module("fcntl")
except ImportError:  # Windows
    _fcntl = None

FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)


def check_appendable(path: Path, tracker: str, option: str = "path") -> None:
    """Refuse a file that cannot be appended to, before there is anything to append.

    Args:
        path: The file.
        tracker: Name of the tracker.
        option: Its option that names the file, or the folder of it.

    Raises:
        StorageError: It is a folder, or may not be written.
    """
    try:
        reason = _obstacle(path)
    except OSError as error:  # a name that is too long
        reason = error.strerror or str(error)
    if reason:
        raise _error(path, tracker, reason, option)


def _obstacle(path: Path) -> str:
    """Why a file cannot be appended to; empty where it can."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    if path.is_dir():
        return "it is a folder"
    if place != path and not place.is_dir():
        return f"{place} is no folder"
    return "" if os.access(place, os.W_OK) else "permission denied"


def append(path: Path, lines: str, tracker: str, header: str = "") -> None:
    """Append whole lines, in a file that is empty behind ``header``.

    Processes take turns. A line that a full disk cut short stays a line of its own.

    Raises:
        StorageError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, FLAGS, 0o666)
        try:
            _lock(descriptor)
            size = os.fstat(descriptor).st_size
            text = lines if size else header + lines
            if size and not _ends_line(descriptor, size):
                text = "\n" + text
            _write(descriptor, text.encode("utf-8", "backslashreplace"))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _error(path, tracker, error.strerror or str(error)) from error


def _lock(descriptor: int) -> None:
    """Wait for the processes that write; closing the file lets the next one in."""
    with contextlib.suppress(OSError):  # a file system without locks
        if _fcntl is not None:
            _fcntl.flock(descriptor, _fcntl.LOCK_EX)


def _ends_line(descriptor: int, size: int) -> bool:
    os.lseek(descriptor, size - 1, os.SEEK_SET)  # O_APPEND writes at the end all the same
    return os.read(descriptor, 1) == b"\n"


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _error(path: Path, tracker: str, reason: str, option: str = "path") -> StorageError:
    return StorageError(
        f"the tracker {tracker!r} cannot write {path}: {reason}",
        "a file that can be appended to",
        f"-x {tracker}.{option}=... names another",
    )
