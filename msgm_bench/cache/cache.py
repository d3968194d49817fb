"""The content-addressed cache: a stage is computed once, verified, and shared."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import platformdirs

from msgm_bench.api.progress import ProgressCallback
from msgm_bench.cache.entry import (
    DAMAGED,
    RECORD,
    Entry,
    StageRecord,
    contents,
    describe,
    is_plain,
    matches,
    modified,
    payload,
    read_record,
    remove,
    size_of,
)
from msgm_bench.cache.locks import GUARD, hold_lock, remove_unused_locks
from msgm_bench.cache.stage import Stage
from msgm_bench.errors import StorageError
from msgm_bench.storage import (
    claim,
    read_json,
    single_line,
    storage_errors,
    take_lease,
    write_text,
)

log = logging.getLogger(__name__)
VARIABLE = "MSGM_BENCH_CACHE"
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)

StageRunner = Callable[[Stage, Path, Mapping[str, Path], ProgressCallback], None]


class Cache:
    """A folder of finished stages, and of unfinished ones that can go on.

    Entries that this object finds or computes are leased: no ``cache gc`` of another process
    deletes them while this object lives.

    Args:
        root: The folder; ``MSGM_BENCH_CACHE`` or the user's cache folder by default.
        run: Runs a stage; its own ``run`` by default.

    Raises:
        StorageError: The folder cannot be made.
    """

    def __init__(self, root: Path | None = None, run: StageRunner | None = None) -> None:
        self.root = default_root() if root is None else root.expanduser().absolute()
        self._leases: dict[str, int] = {}
        self._run = run or _run_alone
        weakref.finalize(self, _close, self._leases)
        self.read_only = self._is_read_only()

    def _is_read_only(self) -> bool:
        """Make the folders; True where they exist and cannot be written."""
        with storage_errors(self.root):
            try:
                for part in ("done", "partial", "locks"):
                    (self.root / part).mkdir(parents=True, exist_ok=True)
                (self.root / "locks" / GUARD).touch()
            except OSError as error:
                if error.errno not in READ_ONLY or not contents(self.root / "done"):
                    raise
                return True
        return False

    def find(self, key: str) -> Entry | None:
        """The finished stage with this key, verified once; None if there is none or it is damaged.

        Deletes nothing: another process may just have replaced a damaged entry.
        """
        path = self.root / "done" / key
        known = key in self._leases
        if not known and not self._lease(key):
            return None
        record = read_record(path)
        if record is None or not (known or matches(path, record)):
            os.close(self._leases.pop(key))
            return None
        return Entry(path, record)

    def _lease(self, key: str) -> bool:
        """Lease an entry, so that it stays; True if it exists."""
        lease = take_lease(self.root / "done" / key / RECORD)
        if lease is not None:
            self._leases[key] = lease
        return lease is not None

    def reserve(self, stages: Iterable[Stage]) -> None:
        """Lease the cached ones of a run's stages, before it begins.

        Raises:
            StorageError: The cache is read-only and lacks a stage.
        """
        missing = [stage.name for stage in stages if self.find(stage.key) is None]
        if missing and self.read_only:
            raise StorageError(
                f"the cache {single_line(self.root)} is read-only and lacks {', '.join(missing)}",
                "a read-only cache that holds every stage of the run, or one that can be written",
                f"choose another with {VARIABLE}",
            )

    def release(self) -> None:
        """Give all leases back."""
        _close(self._leases)

    def partial(self, key: str) -> Path:
        """Folder in which an unfinished stage works."""
        return self.root / "partial" / key

    @contextlib.contextmanager
    def locked(self, stage: Stage) -> Iterator[None]:
        """Hold the stage's lock; wait for another process that computes it, and log which."""

        def warn(holder: str) -> None:
            log.warning("waiting for %s, which computes %s", holder, stage.name)

        folder = self.root / "locks"
        with contextlib.ExitStack() as stack:
            with storage_errors(folder):
                stack.enter_context(hold_lock(folder, stage.key, warn))
            yield

    def compute(self, stage: Stage, needs: Mapping[str, Path], report: ProgressCallback) -> Entry:
        """Run ``stage`` under its lock, and publish its files by one rename.

        Raises:
            StorageError: The disk is full or the folder cannot be written.
        """
        with self.locked(stage):
            entry = self.find(stage.key)
            if entry is not None:
                return entry
            work, done = self.partial(stage.key), self.root / "done" / stage.key
            self._clear(work, done)
            started = time.monotonic()
            self._run(stage, work, needs, report)
            seconds = stage.seconds(time.monotonic() - started, needs)
            files = {path.name: describe(path) for path in payload(work)}
            record = StageRecord(
                name=stage.name,
                inputs=dict(stage.inputs),
                seconds=round(seconds, 3),
                files=files,
            )
            text = json.dumps(record.model_dump(), indent=1, sort_keys=True)
            write_text(work / RECORD, text)
            with storage_errors(done):
                work.rename(done)
            self._lease(stage.key)
            return Entry(done, record)

    def _clear(self, work: Path, done: Path) -> None:
        """Remove a damaged entry, and all but whole regular files of a killed attempt."""
        with storage_errors(work):
            if os.path.lexists(done):
                log.warning("cache entry %s is damaged: it is computed again", done.name[:12])
                remove(done)
            if work.is_symlink() or not work.is_dir():
                remove(work)
            work.mkdir(parents=True, exist_ok=True)
            for path in work.iterdir():
                if path.name.startswith(".") or not is_plain(path):
                    remove(path)

    def entries(self) -> list[Entry]:
        """All finished stages, unverified, the oldest first."""
        paths = sorted(contents(self.root / "done"), key=modified)
        return [Entry(path, read_record(path) or DAMAGED) for path in paths]

    def collect(self, older_than_days: float = 0.0) -> tuple[int, int]:
        """Delete entries and partial work older than so many days; (count, bytes).

        Entries that a process computes or has leased stay.

        Raises:
            StorageError: The cache cannot be written.
        """
        self.release()
        limit, count, size = time.time() - older_than_days * 86_400, 0, 0
        for path in [*contents(self.root / "done"), *contents(self.root / "partial")]:
            if modified(path) > limit:
                continue
            with (
                storage_errors(path),
                hold_lock(self.root / "locks", path.name) as is_held,
                claim(path / RECORD) as is_free,
            ):
                if is_held and is_free and os.path.lexists(path):
                    size += size_of(path)
                    count += 1
                    remove(path)
        remove_unused_locks(self.root / "locks", self._has_work)
        return count, size

    def _has_work(self, key: str) -> bool:
        """Whether there is a finished or an unfinished stage with this key."""
        return any(os.path.lexists(self.root / part / key) for part in ("done", "partial"))


def default_root() -> Path:
    """The folder that ``MSGM_BENCH_CACHE`` names, else the user's cache folder."""
    chosen = os.environ.get(VARIABLE) or platformdirs.user_cache_dir("msgm-bench")
    return Path(chosen).expanduser().absolute()


def load_json(entry: Path, name: str) -> Any:
    """A JSON file of an entry.

    Raises:
        StorageError: It is not there or not JSON.
    """
    try:
        return read_json(entry / name)
    except StorageError as error:
        raise StorageError(error.what, error.allowed, "repeat the command") from error


def _run_alone(
    stage: Stage, work: Path, needs: Mapping[str, Path], report: ProgressCallback
) -> None:
    stage.run(work, needs, report)


@contextlib.contextmanager
def cache_in(folder: Path) -> Iterator[None]:
    """Let every cache that names no folder of its own lie in ``folder``, those of workers, too."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(folder.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def _close(leases: dict[str, int]) -> None:
    while leases:
        os.close(leases.popitem()[1])
