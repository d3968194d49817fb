"""What no command may do, whatever it reads: start programs, connect, unpickle, write elsewhere."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from msgm_bench.registry import registry

STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork")
CONNECTS = ("socket.connect", "socket.getaddrinfo")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
CHANGES = {  # of each event, which argument is the path, and which the open folder it starts from
    "os.mkdir": (0, 2),
    "os.rename": (1, 3),
    "os.remove": (0, 1),
    "os.rmdir": (0, 1),
    "os.link": (1, 3),
    "os.symlink": (1, 2),
}


@dataclass
class Watch:
    """What happened inside ``watched``."""

    allowed: tuple[str, ...] = ()
    events: list[str] = field(default_factory=list)


_current: list[Watch] = []  # the innermost last


def _hear(event: str, arguments: tuple) -> None:
    if not _current:
        return
    watch = _current[-1]
    if event in CONNECTS:  # a dataset's makers may be called, but nobody answers
        if arguments[0] not in publishers():
            watch.events.append(f"{event} {arguments[:2]}")
        raise OSError("there is no network in this test")
    if event in STARTS or event == "pickle.find_class":
        if event.startswith("pickle") and _harmless(arguments):
            return
        watch.events.append(f"{event} {arguments[:2]}")
    elif event == "open" and isinstance(arguments[0], str | bytes) and arguments[2] & WRITES:
        _judge_place(watch, "open", arguments[0])
    elif event in CHANGES:
        place, folder = (arguments[i] for i in CHANGES[event])
        _judge_place(watch, event, place, folder)


@functools.cache
def publishers() -> set[str | None]:
    """The servers from which files are fetched that are not there."""
    classes = [entry.cls for entry in registry().entries("datasets")]
    sources = [source for cls in classes for source in getattr(cls, "published", ())]
    return {urlsplit(url).hostname for source in sources for url in source.urls}


def _harmless(arguments: tuple) -> bool:
    """What torch's and NumPy's restricted readers look up: containers, storages, arrays."""
    module = str(arguments[0])
    return module.split(".")[0] in ("torch", "collections", "numpy", "_codecs")


def _judge_place(watch: Watch, event: str, place: object, folder: int = -1) -> None:
    path = os.fsdecode(place)  # type: ignore[arg-type]
    if folder != -1:
        path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
    path = os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))
    if path != os.devnull and not path.startswith(watch.allowed):
        watch.events.append(f"{event} {path}")


sys.addaudithook(_hear)


class TooLong(BaseException):
    """A command did not end within its seconds."""


@contextlib.contextmanager
def watched(*folders: Path, seconds: int = 10) -> Iterator[Watch]:
    """Notes what a block does that it may not; ends it after ``seconds``."""
    publishers()
    watch = Watch(tuple(os.path.realpath(folder) for folder in folders))

    def stop(number: int, frame: object) -> None:
        raise TooLong(f"not done after {seconds} s")

    before, memory, started = signal.signal(signal.SIGALRM, stop), peak(), time.monotonic()
    signal.alarm(seconds)
    _current.append(watch)
    try:
        yield watch
    except TooLong as late:
        watch.events.append(str(late))
    finally:
        _current.remove(watch)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if peak() - memory > 1024:
        watch.events.append(f"{peak() - memory:.0f} MiB of memory")
    if time.monotonic() - started > seconds:
        watch.events.append("too long")


def peak() -> float:
    """The most memory that this process ever held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
