"""Files and folders that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from msgm_bench.errors import StorageError
from msgm_bench.storage.leases import claim, take_lease
from msgm_bench.storage.names import single_line

NAME_LETTERS = 40  # of a path's name in the name of its temporary folder
ATTEMPTS = 3  # a folder that another process sweeps before it is leased is made again


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path in a temporary folder beside ``path``; it replaces ``path`` when the block succeeds.

    The file has the permissions of the process's umask. Temporary folders of killed processes,
    with the temporary files of libraries in them, are deleted.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    with storage_errors(path), temporary_folder(path) as folder:
        temporary = folder / path.name
        yield temporary
        temporary.chmod(folder.stat().st_mode & 0o666)
        temporary.replace(path)


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """A new folder beside ``path``, deleted at the end unless the block renames it.

    Temporary folders that killed processes left beside ``path`` are deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    folder, lease = _leased_folder(path)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lease is not None:
            os.close(lease)


def _leased_folder(path: Path) -> tuple[Path, int | None]:
    """A new folder beside ``path``, and the lease that keeps other processes from sweeping it."""
    for _ in range(ATTEMPTS):
        folder = path.with_name(f".{path.name[:NAME_LETTERS]}-{secrets.token_hex(4)}")
        folder.mkdir()
        lease = take_lease(folder)
        if lease is not None:
            break
    return folder, lease


def sweep(path: Path) -> None:
    """Delete temporary folders of ``path`` whose process is gone."""
    pattern = re.compile(rf"\.{re.escape(path.name[:NAME_LETTERS])}-[0-9a-f]{{8}}")
    with os.scandir(path.parent) as entries:
        folders = [Path(entry.path) for entry in entries if pattern.fullmatch(entry.name)]
    for folder in folders:
        with claim(folder) as is_free:
            if is_free:
                shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` atomically, as UTF-8."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn operating-system errors about ``path`` into ``StorageError``."""
    try:
        yield
    except OSError as error:
        reason = f"cannot write {single_line(path)}: {error.strerror or error}"
        raise StorageError(reason, hint=_hint(error)) from error
    except RuntimeError as error:  # torch reports a failed write as RuntimeError
        if "writ" not in str(error).lower() and "inline_container" not in str(error):
            raise
        raise StorageError(f"cannot write {path}: {error}", hint="is the disk full?") from error


def _hint(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: make room (msgm-bench cache gc) and repeat the command"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "the folder cannot be written: choose another with --out or MSGM_BENCH_CACHE"
    return "nothing that was complete is lost: repeat the command to go on"


def copy_file(source: Path, target: Path) -> None:
    """Copy atomically; a hard link shares later damage of either file."""
    with atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)
