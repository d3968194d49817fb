"""Datasets in published files: search, download, and the error where files are missing."""

from __future__ import annotations

import logging
import os
import stat
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field
from typing_extensions import TypeVar

from msgm_bench import Data, Dataset, Options, Progress, Source, StorageError, UsageError
from msgm_builtin.data_folders import VARIABLE, named_folders, user_folder
from msgm_builtin.datasets.download import download, unpack

DEBIAN = Path("/usr/share/datasets")  # of Debian's packages dataset-*
LOG_INTERVAL = 10.0  # seconds between two lines of progress

log = logging.getLogger("msgm_bench.data")


class FolderOptions(Options):
    """Folder of the files."""

    data_dir: str | None = Field(
        None,
        min_length=1,
        description=f"folder of the files, searched before {VARIABLE} and the user's data folder",
    )


class FilesOptions(FolderOptions):
    """Folder of the files, and whether they may be downloaded."""

    download: bool = Field(True, description="download missing files")


FilesOptionsT = TypeVar("FilesOptionsT", bound=FilesOptions, default=FilesOptions, covariant=True)


class FileDataset(Dataset[FilesOptionsT]):
    """A dataset that is read from published files.

    Attributes:
        published: The published files.
        folders: Subfolders of a place that may hold the files, the usual one first.
        aliases: Paths of a file within such a folder, where there are several.
        image_folders: Names among the files that are folders of images.
        other_datasets: Names of folders with another dataset, in files of the same names.
        advice: Instructions to get the files by hand.
    """

    published: ClassVar[tuple[Source, ...]] = ()
    folders: ClassVar[tuple[str, ...]] = (".",)
    aliases: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    image_folders: ClassVar[frozenset[str]] = frozenset()
    other_datasets: ClassVar[frozenset[str]] = frozenset()
    advice: ClassVar[str] = ""

    def sources(self) -> Sequence[Source]:
        """The published files."""
        return self.published

    def places(self) -> Sequence[Path]:
        """The folder of the option, of the environment, the user's data folder, Debian's."""
        return search_folders(self.options.data_dir)

    def located(self) -> Mapping[str, Path]:
        """Files of the first folder that has all of them, else of the one that has most."""
        fullest: Mapping[str, Path] = {}
        for folder in self._candidates():
            files = self._files_in(folder)
            if len(files) > len(fullest):
                fullest = files
            if len(files) == len(self._names()):
                break
        return fullest

    def _names(self) -> list[str]:
        return [file.name for source in self.sources() for file in source.files]

    def _candidates(self) -> Iterator[Path]:
        for place in self.places():
            for name in self.folders:
                folder = place / name
                if name != "." or not self.other_datasets & {p.lower() for p in folder.parts[-2:]}:
                    yield folder

    def _files_in(self, folder: Path) -> dict[str, Path]:
        paths = {name: self._locate(folder, name) for name in self._names()}
        return {name: path for name, path in paths.items() if path is not None}

    def _locate(self, folder: Path, name: str) -> Path | None:
        """Path of a file under one of its names, or within a folder of its name."""
        aliases = self.aliases.get(name, (name,))
        if name in self.image_folders:
            return next((folder / a for a in aliases if (folder / a).is_dir()), None)
        inner = (f"{outer}/{Path(a).name}" for outer in aliases for a in (outer, *aliases))
        return next((folder / a for a in (*aliases, *inner) if (folder / a).is_file()), None)

    def files(self) -> Mapping[str, Path]:
        """Paths of all files, which are downloaded where they are missing.

        Raises:
            StorageError: Files are missing; names them, the places and the ways to get them.
        """
        located = self.located()
        if len(located) == len(self._names()):
            return located
        if not self.options.download:
            raise self._missing_files(located)
        try:
            self.fetch(LoggedProgress())
        except StorageError as error:
            raise self._missing_files(located, error.what) from error
        return self.located()

    def _missing_files(self, located: Mapping[str, Path], failure: str = "") -> StorageError:
        missing = [name for name in self._names() if name not in located]
        present = f" ({', '.join(map(str, located.values()))} there)" if located else ""
        parts = [
            f"searched {', '.join(map(str, self.places()))}, "
            f"and there {', '.join(name for name in self.folders if name != '.')}",
            failure,
            f"get them with `msgm-bench data fetch {self.name}` where there is a network",
            self.advice,
            f"or say where they are: --data-dir DIR, {VARIABLE}=DIR (docs/datasets.md)",
        ]
        what = f"dataset {self.name!r}: not found: {', '.join(missing)}{present}"
        return StorageError(what, hint="\n".join(part for part in parts if part))

    def target(self) -> Path:
        """Folder of downloads: this dataset's, in the first place that is a user's own."""
        return self.places()[0] / self.folders[0]

    def fetch(self, progress: Progress) -> Path:
        """Download, verify and unpack the files that the target folder lacks.

        Raises:
            StorageError: No network, no room, or another checksum than the published one.
        """
        folder = self.target()
        existing = self._files_in(folder)
        for source in self.sources():
            if all(file.name in existing for file in source.files):
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
        """The data in the files."""


class LoggedProgress:
    """Progress in the log: a line when a file starts, and at intervals."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """Log a line if the last one is old enough."""
        now = time.monotonic()
        if now - self.last.get(name, -LOG_INTERVAL) >= LOG_INTERVAL:
            self.last[name] = now
            of = f" of {total / 1e6:,.1f}" if total else ""
            log.info("downloading %s: %.1f%s MB", name, done / 1e6, of)


def existing_folders(data_dir: str | None) -> list[Path]:
    """Folders that the user names, by option, then by environment.

    Raises:
        UsageError: A folder does not exist.
    """
    folders = named_folders(data_dir)
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(
                f"data folder {folder} is not there",
                f"a folder that is there, as data_dir or {VARIABLE}",
                "correct its name, or make it; `msgm-bench data fetch NAME --data-dir DIR` does",
            )
    return folders


def search_folders(data_dir: str | None) -> list[Path]:
    """Folders that are searched for files, in order; downloads go into the first."""
    return [*existing_folders(data_dir), user_folder(), DEBIAN]


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of a regular file; links are followed.

    Raises:
        StorageError: The file cannot be read, is a pipe or a device, or has more than ``limit``
            bytes.
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


def damaged(path: Path, reason: object, hint: str = "") -> StorageError:
    """The error of a file that exists and cannot be used."""
    return StorageError(f"{path} is damaged: {reason}", hint=hint or "get the file again")
