"""The content-addressed cache: a stage is computed once, verified, and shared."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import filelock
import platformdirs

from msgm_bench.api import digest
from msgm_bench.errors import StorageError
from msgm_bench.storage import explained, write_text

log = logging.getLogger(__name__)
VARIABLE = "MSGM_BENCH_CACHE"
RECORD = "stage.json"


class Report(Protocol):
    """Hears of progress: ``step`` of ``total``, what is logged, and of which part of the stage."""

    def __call__(
        self, step: int, total: int, values: Mapping[str, float], part: str = "", /
    ) -> None:
        """A unit is done."""


Produce = Callable[[Path, Mapping[str, Path], Report], None]


@dataclass(frozen=True)
class Stage:
    """A unit of work whose outcome is determined by its inputs.

    Attributes:
        name: What is shown, such as ``draw generation``.
        inputs: JSON-ready; all that determines the outcome, and nothing else.
        produce: Writes the outcome into a folder, given the folders of ``needs``. The folder
            keeps what an earlier, killed attempt left there.
        needs: Stages that come first.
        units: Number of units of progress.
    """

    name: str
    inputs: Mapping[str, Any]
    produce: Produce = field(repr=False)
    needs: Mapping[str, Stage] = field(default_factory=dict)
    units: int = 1

    @cached_property
    def key(self) -> str:
        """SHA-256 of the inputs and of the keys of all that it needs."""
        needs = {name: stage.key for name, stage in self.needs.items()}
        return digest({"name": self.name, "inputs": dict(self.inputs), "needs": needs})


@dataclass(frozen=True)
class Entry:
    """One finished stage in the cache."""

    path: Path
    record: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file["bytes"] for file in self.record["files"].values())

    @property
    def seconds(self) -> float:
        """How long it took; after a kill, the last attempt."""
        return float(self.record.get("seconds", 0.0))


class Cache:
    """A folder of finished stages, and of unfinished ones that can go on.

    Args:
        root: The folder; ``MSGM_BENCH_CACHE`` or the user's cache folder by default.
    """

    def __init__(self, root: Path | None = None) -> None:
        chosen = root or os.environ.get(VARIABLE) or platformdirs.user_cache_dir("msgm-bench")
        self.root = Path(chosen).expanduser().absolute()
        self._verified: set[str] = set()
        with explained(self.root):
            for part in ("done", "partial", "locks"):
                (self.root / part).mkdir(parents=True, exist_ok=True)
            probe = self.root / "locks" / ".writable"
            probe.touch()

    def find(self, key: str) -> Entry | None:
        """The finished stage with this key, verified once; None if there is none or it is damaged.

        Deletes nothing: another process may just have replaced what was damaged.
        """
        path = self.root / "done" / key
        try:
            record = json.loads((path / RECORD).read_text(encoding="utf-8"))
            sound = key in self._verified or _matches(path, record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            sound = False
        if not sound:
            return None
        self._verified.add(key)
        return Entry(path, record)

    def partial(self, key: str) -> Path:
        """Where an unfinished stage keeps its work."""
        return self.root / "partial" / key

    @contextlib.contextmanager
    def locked(self, stage: Stage) -> Iterator[None]:
        """Hold the stage's lock; wait for whoever else computes it."""
        path = self.root / "locks" / f"{stage.key}.lock"
        lock = filelock.FileLock(path)
        with explained(path):
            try:
                lock.acquire(blocking=False)
            except filelock.Timeout:
                log.warning("waiting for another process that computes %s", stage.name)
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def compute(self, stage: Stage, needs: Mapping[str, Path], report: Report) -> Entry:
        """Run ``stage`` under its lock, and publish what it leaves by one rename.

        Raises:
            StorageError: The disk is full or the folder cannot be written.
        """
        with self.locked(stage):
            found = self.find(stage.key)
            if found is not None:
                return found
            work, done = self.partial(stage.key), self.root / "done" / stage.key
            self._clear(work, done)
            started = time.monotonic()
            stage.produce(work, needs, report)
            record = {
                "name": stage.name,
                "inputs": dict(stage.inputs),
                "seconds": round(time.monotonic() - started, 3),
                "files": {path.name: _describe(path) for path in _payload(work)},
            }
            write_text(work / RECORD, json.dumps(record, indent=1, sort_keys=True))
            with explained(done):
                work.rename(done)
            self._verified.add(stage.key)
            return Entry(done, record)

    def _clear(self, work: Path, done: Path) -> None:
        """Make room: no damaged entry, no half-written files of an attempt that was killed."""
        with explained(work):
            if done.exists():
                log.warning("cache entry %s is damaged: it is computed again", done.name[:12])
                shutil.rmtree(done)
            work.mkdir(parents=True, exist_ok=True)
            for litter in work.glob(".*"):
                litter.unlink()

    def entries(self) -> list[Entry]:
        """All finished stages, unverified, the oldest first."""
        found = []
        for path in sorted((self.root / "done").iterdir(), key=lambda p: p.stat().st_mtime):
            try:
                found.append(Entry(path, json.loads((path / RECORD).read_text(encoding="utf-8"))))
            except (OSError, ValueError):
                found.append(Entry(path, {"name": "damaged", "inputs": {}, "files": {}}))
        return found

    def collect(self, older_than_days: float = 0.0) -> tuple[int, int]:
        """Delete entries and partial work not touched for so long; (count, bytes)."""
        limit, count, size = time.time() - older_than_days * 86_400, 0, 0
        for path in [*(self.root / "done").iterdir(), *(self.root / "partial").iterdir()]:
            if path.stat().st_mtime > limit:
                continue
            lock = filelock.FileLock(self.root / "locks" / f"{path.name}.lock")
            with contextlib.suppress(filelock.Timeout), lock.acquire(blocking=False):
                size += sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                count += 1
                shutil.rmtree(path)
        return count, size


def load_json(entry: Path, name: str) -> Any:
    """A JSON file of an entry.

    Raises:
        StorageError: It is not there or not JSON.
    """
    try:
        return json.loads((entry / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{name} cannot be read: {error}", hint="repeat the command") from error


def _payload(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name != RECORD)


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {
            "bytes": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


def _matches(folder: Path, record: Mapping[str, Any]) -> bool:
    files = record["files"]
    return all((folder / name).is_file() for name in files) and all(
        _describe(folder / name) == told for name, told in files.items()
    )
