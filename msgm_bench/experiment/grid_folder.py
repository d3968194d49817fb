"""The folder that a grid's workers share with the command, beside the run folders."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from msgm_bench.storage import claim, storage_errors, take_lease

PREFIX = ".grid-"
IN_USE = "in-use"  # the command has a lease on it
ABANDONED_SECONDS = 86_400.0


@contextlib.contextmanager
def grid_folder(out: Path) -> Iterator[Path]:
    """A new folder in ``out``, removed at the end, and with it those that kills left for a day.

    Raises:
        StorageError: It cannot be made.
    """
    for folder in out.glob(f"{PREFIX}*"):
        _remove_abandoned(folder)
    with storage_errors(out):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=out))
        (folder / IN_USE).touch()
    lease = take_lease(folder / IN_USE)
    try:
        yield folder
    finally:
        if lease is not None:
            os.close(lease)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove a folder that no command uses and that is a day old."""
    with contextlib.suppress(OSError), claim(folder / IN_USE) as is_free:
        if is_free and time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
