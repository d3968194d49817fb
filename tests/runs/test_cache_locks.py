"""Locks of stages: mutual exclusion, and removal of files that are no longer used."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from msgm_bench.cache.cache import Cache
from msgm_bench.cache.locks import GUARD, hold_lock, holder_name, remove_unused_locks
from msgm_bench.cache.stage import Stage


@pytest.fixture
def folder(tmp_path):
    """An empty folder of locks with its guard."""
    (tmp_path / GUARD).touch()
    return tmp_path


def produce(work, needs=None, report=None):
    """Write one file."""
    (work / "file").write_text("content")


@dataclass(frozen=True, eq=False)
class NamedStage(Stage):
    """A stage that its name determines."""

    name: str = ""
    function: Callable = produce
    inputs = {}

    def run(self, work, needs, report):
        """Call the function."""
        self.function(work)


def names(folder):
    """Names of the files in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_gc_removes_locks_of_deleted_stages(tmp_path):
    """``cache gc`` leaves the locks of stages that stay, and no other."""
    cache = Cache(tmp_path)
    needed, old = NamedStage("needed"), NamedStage("old")
    for stage in (needed, old):
        cache.compute(stage, {}, produce)
    cache.release()
    other = Cache(tmp_path)
    assert other.find(needed.key) is not None
    assert cache.collect()[0] == 1
    assert names(tmp_path / "locks") == sorted([GUARD, f"{needed.key}.lock"])
    other.release()
    cache.collect()
    assert names(tmp_path / "locks") == [GUARD]


def test_gc_removes_no_lock_while_a_stage_runs(tmp_path):
    """The lock of a running stage stays, and so do all others until no process has a lock."""
    cache, counts = Cache(tmp_path), []
    (cache.root / "locks" / "unused.lock").touch()

    def collect(work):
        produce(work)
        counts.append(Cache(tmp_path).collect())
        assert "unused.lock" in names(tmp_path / "locks")

    stage = NamedStage("busy", collect)
    cache.compute(stage, {}, produce)
    assert counts == [(0, 0)]
    cache.collect(older_than_days=1)
    assert names(tmp_path / "locks") == sorted([GUARD, f"{stage.key}.lock"])


def test_a_held_lock_is_not_held_twice(folder):
    """Without waiting, a lock that is held elsewhere is not held; afterwards it is."""
    with hold_lock(folder, "a") as first, hold_lock(folder, "a") as second:
        assert (first, second) == (True, False)
    with hold_lock(folder, "a") as again:
        assert again


def test_who_waits_reads_the_holders_name(folder):
    """The process, its host and the time in UTC, as long as the lock is held and no longer."""
    waits, ends = [], threading.Event()

    def wait():
        with hold_lock(folder, "a", on_wait=lambda name: (waits.append(name), ends.set())):
            pass

    with hold_lock(folder, "a"):
        before = time.time()
        thread = threading.Thread(target=wait)
        thread.start()
        assert ends.wait(30)
    thread.join()
    (name,) = waits
    holder, _, since = name.partition(", since ")
    assert holder == f"process {os.getpid()} on {platform.node()}"
    moment = datetime.strptime(since, "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC).timestamp()
    assert before - 120 < moment <= time.time()
    assert names(folder) == [GUARD, "a.lock"]


def test_names_that_a_kill_leaves(folder):
    """The next holder replaces the name of a killed one; what is no name is no error."""
    (folder / "a.holder").write_text("process 1 on elsewhere")
    with hold_lock(folder, "a"):
        assert holder_name(folder / "a.holder").startswith(f"process {os.getpid()} ")
    (folder / "a.holder").write_bytes(b"\xff" * 2000)
    assert holder_name(folder / "a.holder") == holder_name(folder / "b") == "another process"
    remove_unused_locks(folder, lambda key: False)
    assert names(folder) == [GUARD]


def test_removal_breaks_no_mutual_exclusion(folder):
    """Threads that take turns under one lock never overlap, however often its file is removed."""
    inside, overlaps, ends = [], [], threading.Event()

    def work():
        for _ in range(25):
            with hold_lock(folder, "a", on_wait=list):
                inside.append(1)
                if len(inside) > 1:
                    overlaps.append(len(inside))
                ends.wait(0.0005)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    removed = 0
    while any(thread.is_alive() for thread in threads):
        removed += remove_unused_locks(folder, lambda key: False)
    for thread in threads:
        thread.join()
    remove_unused_locks(folder, lambda key: False)
    assert overlaps == []
    assert names(folder) == [GUARD]
