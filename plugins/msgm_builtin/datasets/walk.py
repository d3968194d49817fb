"""The images under a folder, and a count of all other entries."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from msgm_bench import StorageError
from msgm_builtin.datasets.files import damaged

SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
}
SYSTEM = re.compile(  # names of operating systems, archives and storage boxes
    r"__macosx|@eadir|@recycle|#recycle|#snapshot|\$recycle\.bin|recycler|lost\+found"
    r"|system volume information|@recently-snapshot|@sharebin|thumbs\.db|ehthumbs\.db"
    r"|desktop\.ini|icon\r|__pycache__",
    re.IGNORECASE,
)
HIDDEN, LEFTOVERS, NO_SUFFIX = "hidden", "of the operating system", "without an ending"
BESIDE, EMPTY, OTHER_PART = "beside the class folders", "without images", "of {}"


@dataclass
class Listing:
    """A folder's content.

    Attributes:
        images: Image files by their name within the folder, in order of names.
        skipped: Numbers of skipped entries by kind: an ending, or a description.
    """

    images: dict[str, Path] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)

    def by_folder(self, within: str = "") -> dict[str, list[str]]:
        """Names of the images below each subfolder of ``within``, and of its own as ``""``.

        ``within`` is empty or ends with ``/``; names are relative to the whole folder.
        """
        groups = defaultdict[str, list[str]](list)
        for name in self.images:
            if name.startswith(within):
                first, slash, _ = name.removeprefix(within).partition("/")
                groups[first if slash else ""].append(name)
        return dict(groups)


def walk(folder: Path) -> Listing:
    """Walk ``folder``; symbolic links are followed.

    Raises:
        StorageError: A folder cannot be listed or is there twice by a link, an image is a pipe, a
            device or a broken link, or a name is no text.
    """
    images, skipped = dict[str, Path](), Counter[str]()
    visited, pending = dict[tuple[int, int], Path](), [(folder, "")]
    while pending:
        current, prefix = pending.pop()
        _visit_once(current, visited)
        for entry in _entries(current):
            path = current / entry.name
            if kind := _skipped_kind(entry.name):
                skipped[kind] += 1
            elif _is_folder(entry):
                pending.append((path, f"{prefix}{entry.name}/"))
            elif (suffix := _suffix(entry.name)) in SUFFIXES:
                images[f"{prefix}{entry.name}"] = path if entry.is_file() else _check_regular(path)
            else:
                skipped[suffix or NO_SUFFIX] += 1
    return Listing({name: images[name] for name in sorted(images)}, skipped)


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in ``folder`` that may hold images, in order.

    Raises:
        StorageError: The folder cannot be listed.
    """
    entries = (entry for entry in _entries(folder) if not _skipped_kind(entry.name))
    return sorted(entry.name for entry in entries if _is_folder(entry))


def describe(skipped: Counter[str]) -> str:
    """One line on all skipped entries, the most frequent kind first; empty where there are none."""
    if not skipped:
        return ""
    kinds = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    return "skipped: " + ", ".join(f"{count:,} {kind}" for kind, count in kinds)


def _visit_once(folder: Path, visited: dict[tuple[int, int], Path]) -> None:
    """Refuse a folder that a link leads to again: a circle, or images twice.

    Raises:
        StorageError: The folder is in ``visited``.
    """
    status = _status(folder)
    first = visited.setdefault((status.st_dev, status.st_ino), folder)
    if first != folder:
        raise damaged(folder, f"this link leads to {first}, which is read already", "take it away")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as scan:
            entries = list(scan)
    except OSError as error:
        raise StorageError(
            f"folder {folder} cannot be listed: {error.strerror or error}",
            hint="give yourself permission to read it, or take it away",
        ) from error
    for entry in entries:
        try:
            entry.name.encode("utf-8")
        except UnicodeEncodeError as error:
            raise damaged(Path(entry.path), "its name is no UTF-8 text", "rename it") from error
    return entries


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, for one
        _status(Path(entry.path))
        raise


def _check_regular(path: Path) -> Path:
    if not stat.S_ISREG(_status(path).st_mode):
        raise damaged(path, "no regular file", "put an image there, or take it away")
    return path


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        what = "this link leads to nothing" if path.is_symlink() else error.strerror or error
        raise damaged(path, what, "mend it, or take it away") from error


def _skipped_kind(name: str) -> str:
    """Kind of an entry that is skipped for its name; empty for any other."""
    if SYSTEM.fullmatch(name):
        return LEFTOVERS
    return HIDDEN if name.startswith(".") else ""


def _suffix(name: str) -> str:
    suffix = os.path.splitext(name)[1].lower()
    return suffix if suffix.isprintable() and len(suffix) <= 12 else ".…"
