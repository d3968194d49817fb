"""Archives of files: zip without compression, one sequence of bytes for one set of files.

Members are stored as they are, in the order of their names, with one date and one mode, so that
nothing inflates and nothing but names and contents can differ. Source: PKWARE APPNOTE 6.3.10.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

from msgm_bench.errors import StorageError, shorten
from msgm_bench.storage.names import single_line
from msgm_bench.storage.readers import MIB, error_summary, read_bytes

ARCHIVE_LIMIT, MEMBERS = 20 * MIB, 1_000
SUFFIXES = (".json", ".yaml", ".safetensors")
DATE, MODE = (1980, 1, 1, 0, 0, 0), stat.S_IFREG | 0o644
FAULTS = (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, struct.error)
_NAME = re.compile(r"(?:[a-z0-9][a-z0-9_.-]{0,99}/){0,3}[a-z0-9][a-z0-9_.-]{0,199}")


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """The archive of ``files``, by name; equal files give equal bytes.

    Raises:
        StorageError: A name is no relative path of plain letters with one of ``SUFFIXES``.
    """
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            _check_name(name, "the archive")
            archive.writestr(_member(name), files[name])
    return target.getvalue()


def read_archive(path: Path, limit: int = ARCHIVE_LIMIT) -> dict[str, bytes]:
    """The files of the archive at ``path``, by name.

    Raises:
        StorageError: As ``read_bytes`` and ``unpack_files``.
    """
    return unpack_files(read_bytes(path, limit=limit), single_line(path))


def unpack_files(content: bytes, name: str) -> dict[str, bytes]:
    """The files of an archive in memory; ``name`` names it in errors.

    Raises:
        StorageError: It is damaged, or no archive as ``pack_files`` writes it: a member is
            compressed, encrypted, a link, a folder or stands twice, its name leads out of the
            archive, or there are bytes beside the members.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            _check_members(members, name, len(content))
            files = {member.filename: archive.read(member) for member in members}
    except FAULTS as error:
        raise _refusal(name, f"it is damaged or no zip: {error_summary(error)}") from error
    if pack_files(files) != content:
        raise _refusal(name, "it holds more than its members, or was packed by another program")
    return files


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, DATE)
    member.create_system = 3  # the mode is that of Unix, whatever the platform
    member.external_attr = MODE << 16
    return member


def _check_members(members: list[zipfile.ZipInfo], name: str, size: int) -> None:
    """Refuse members by the table of contents, before any is read."""
    if len(members) > MEMBERS:
        raise _refusal(name, f"it has {len(members)} members, of at most {MEMBERS}")
    names = set[str]()
    for member in members:
        label = shorten(single_line(member.filename))
        _check_name(member.orig_filename, name)
        if member.filename in names:
            raise _refusal(name, f"{label!r} stands twice")
        names.add(member.filename)
        if member.flag_bits & 1:
            raise _refusal(name, f"{label!r} is encrypted")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise _refusal(
                name,
                f"{label!r} is compressed, {member.file_size} bytes: only stored files are read",
            )
        mode = member.external_attr >> 16
        if mode and not stat.S_ISREG(mode):
            raise _refusal(name, f"{label!r} is a link or no regular file")
    total = sum(member.file_size for member in members)
    if total > size:
        raise _refusal(name, f"its members are {total} bytes, and the file has {size}")


def _check_name(member: str, name: str) -> None:
    label = shorten(single_line(member))
    if not _NAME.fullmatch(member) or ".." in member:
        raise _refusal(name, f"the name {label!r} is no plain path inside the archive")
    if not member.endswith(SUFFIXES):
        raise _refusal(name, f"{label!r} is no file of {', '.join(SUFFIXES)}")


def _refusal(name: str, reason: str) -> StorageError:
    return StorageError(
        f"{name} cannot be read: {reason}", "an archive that `msgm-bench submit` wrote"
    )
