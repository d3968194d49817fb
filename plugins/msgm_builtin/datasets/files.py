"""Datasets that live in files: where these are looked for, and what is said without them."""

from __future__ import annotations

import logging
import os
import stat
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import platformdirs
from pydantic import Field
from typing_extensions import TypeVar

from msgm_bench import Data, Dataset, Options, Progress, Source, StorageError, UsageError
from msgm_builtin.datasets.download import download, unpack

VARIABLE = "MSGM_BENCH_DATA"
DEBIAN = Path("/usr/share/datasets")  # where Debian's dataset-* packages put theirs
INTERVAL = 10.0  # seconds between two words about a long job

log = logging.getLogger("msgm_bench.data")


class PlaceOptions(Options):
    """Where the files are."""

    data_dir: str | None = Field(
        None,
        min_length=1,
        description=f"folder of the files; before {VARIABLE} and the user's data folder",
    )


class FilesOptions(PlaceOptions):
    """Where the files are, and whether they may be downloaded."""

    download: bool = Field(True, description="download files that are nowhere")


FilesOptionsT = TypeVar("FilesOptionsT", bound=FilesOptions, default=FilesOptions, covariant=True)


class FileDataset(Dataset[FilesOptionsT]):
    """A dataset that is read from published files.

    Attributes:
        published: What its makers publish.
        folders: Folders within a place that may hold the files, the usual one first.
        aliases: Paths within such a folder under which a file may lie, where there are several.
        image_folders: Names among the files that are folders of images.
        foreign: Folders of these names hold another dataset, in files of the same names.
        advice: How a person gets the files.
    """

    published: ClassVar[tuple[Source, ...]] = ()
    folders: ClassVar[tuple[str, ...]] = (".",)
    aliases: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    image_folders: ClassVar[frozenset[str]] = frozenset()
    foreign: ClassVar[frozenset[str]] = frozenset()
    advice: ClassVar[str] = ""

    def sources(self) -> Sequence[Source]:
        """The published files."""
        return self.published

    def places(self) -> Sequence[Path]:
        """Option, environment, the user's data folder, Debian's."""
        return places(self.options.data_dir)

    def located(self) -> Mapping[str, Path]:
        """The files of the first folder that has all, else of the fullest."""
        fullest: Mapping[str, Path] = {}
        for folder in self._candidates():
            here = self._in(folder)
            if len(here) > len(fullest):
                fullest = here
            if len(here) == len(self._names()):
                break
        return fullest

    def _names(self) -> list[str]:
        return [file.name for source in self.sources() for file in source.files]

    def _candidates(self) -> Iterator[Path]:
        for place in self.places():
            for name in self.folders:
                folder = place / name
                if name != "." or not self.foreign & {p.lower() for p in folder.parts[-2:]}:
                    yield folder

    def _in(self, folder: Path) -> dict[str, Path]:
        places = {name: self._place(folder, name) for name in self._names()}
        return {name: path for name, path in places.items() if path is not None}

    def _place(self, folder: Path, name: str) -> Path | None:
        """Where a file lies under one of its names, or in a folder that is called like it."""
        aliases = self.aliases.get(name, (name,))
        if name in self.image_folders:
            return next((folder / a for a in aliases if (folder / a).is_dir()), None)
        inner = (f"{outer}/{Path(a).name}" for outer in aliases for a in (outer, *aliases))
        return next((folder / a for a in (*aliases, *inner) if (folder / a).is_file()), None)

    def files(self) -> Mapping[str, Path]:
        """Every file, downloaded if need be.

        Raises:
            StorageError: Some are nowhere; names them, the places and the ways to get them.
        """
        found = self.located()
        if len(found) == len(self._names()):
            return found
        if not self.options.download:
            raise self._missing(found)
        try:
            self.fetch(Told())
        except StorageError as error:
            raise self._missing(found, error.what) from error
        return self.located()

    def _missing(self, found: Mapping[str, Path], failed: str = "") -> StorageError:
        missing = [name for name in self._names() if name not in found]
        there = f" ({', '.join(map(str, found.values()))} there)" if found else ""
        parts = [
            f"looked in {', '.join(map(str, self.places()))}, "
            f"and there in {', '.join(name for name in self.folders if name != '.')}",
            failed,
            f"get them with `msgm-bench data fetch {self.name}` where there is a network",
            self.advice,
            f"or say where they are: --data-dir DIR, {VARIABLE}=DIR (docs/datasets.md)",
        ]
        what = f"dataset {self.name!r}: not found: {', '.join(missing)}{there}"
        return StorageError(what, hint="\n".join(part for part in parts if part))

    def target(self) -> Path:
        """Where downloads go: this dataset's folder in the first place that is a user's own."""
        return self.places()[0] / self.folders[0]

    def fetch(self, progress: Progress) -> Path:
        """Download, verify and unpack what is not in the target folder yet.

        Raises:
            StorageError: No network, no room, or not what was published.
        """
        folder = self.target()
        here = self._in(folder)
        for source in self.sources():
            if all(file.name in here for file in source.files):
                continue
            path = folder / source.name
            try:
                path = download(source, folder, progress)
            except StorageError as error:
                raise type(error)(error.what, hint=error.hint or self.advice) from error
            if source.holds:
                unpack(path, folder)
                path.unlink()
        return folder

    def load(self) -> Data:
        """Find the files and read them."""
        return self.read(self.files())

    @abstractmethod
    def read(self, files: Mapping[str, Path]) -> Data:
        """The data, from the files that were found."""


class Told:
    """Progress in the log: when a file starts, and now and then."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """A line if the last is old enough."""
        now = time.monotonic()
        if now - self.last.get(name, -INTERVAL) >= INTERVAL:
            self.last[name] = now
            of = f" of {total / 1e6:,.1f}" if total else ""
            log.info("downloading %s: %.1f%s MB", name, done / 1e6, of)


def named_places(data_dir: str | None) -> list[Path]:
    """Folders that the user named: by option, then by environment.

    Raises:
        UsageError: One is not there.
    """
    named = [data_dir, os.environ.get(VARIABLE)]
    folders = [Path(name).expanduser().absolute() for name in named if name]
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(
                f"data folder {folder} is not there",
                f"a folder that is there, as data_dir or {VARIABLE}",
                "correct its name, or make it; `msgm-bench data fetch NAME --data-dir DIR` does",
            )
    return folders


def places(data_dir: str | None) -> list[Path]:
    """Folders that are searched, in order; the first is where downloads go."""
    own = platformdirs.user_data_path("msgm-bench", appauthor=False)
    return [*named_places(data_dir), own, DEBIAN]


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of a regular file, wherever links lead to it.

    Raises:
        StorageError: It cannot be read, is a pipe or a device, or is larger than ``limit`` bytes.
    """
    try:
        # a pipe must not hang, and Windows must not translate line ends
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)
        with open(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise damaged(path, "no regular file", "put a file there, or take it away")
            if status.st_size > limit:
                raise damaged(path, f"{status.st_size:,} bytes; at most {limit:,} are read")
            content, most = b"", status.st_size + 1
            while part := file.read(most - len(content)):
                content += part
    except PermissionError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror}", hint="give yourself permission to read it"
        ) from error
    except (OSError, ValueError) as error:
        raise damaged(path, getattr(error, "strerror", None) or error) from error
    if len(content) != status.st_size:
        raise damaged(path, "its size changed while it was read", "leave it alone, and repeat")
    return content


def damaged(path: Path, why: object, hint: str = "") -> StorageError:
    """What is said about a file that is there and cannot be used."""
    return StorageError(f"{path} is damaged: {why}", hint=hint or "get the file again")
