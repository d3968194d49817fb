"""Downloads that are whole, verified, or not there."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tarfile
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgm_bench import Progress, Source, StorageError, atomic_write

TIMEOUT = 30.0  # seconds without an answer
CHUNK = 1 << 20
UNPACKED = 2.2  # an archive of images and what is in it, in units of the archive


class DownloadError(StorageError):
    """One address did not give the file; the next may."""


def download(source: Source, folder: Path, progress: Progress) -> Path:
    """Get ``source`` from the first of its addresses that gives it whole.

    The file appears under its name by one rename, after its checksum was compared; where no
    checksum is known, after its length was.

    Raises:
        StorageError: No address gave it, or the disk has no room.
    """
    path, failed = folder / source.name, []
    for url in source.urls:
        try:
            _from(url, source, path, progress)
        except DownloadError as error:
            failed.append(error.what)
        else:
            return path
    raise DownloadError(f"cannot download {source.name}: {'; '.join(failed) or 'no address'}")


def _from(url: str, source: Source, path: Path, progress: Progress) -> None:
    host = urlsplit(url).netloc or url
    try:
        answer = urllib.request.urlopen(url, timeout=TIMEOUT)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadError(f"{host}: {getattr(error, 'reason', None) or error}") from error
    with answer:
        length = answer.headers.get("Content-Length")
        total = int(length) if length else source.size
        room(path.parent, int((total or 0) * (UNPACKED if source.holds else 1.0)))
        with atomic_write(path) as temporary:
            md5, done = hashlib.md5(usedforsecurity=False), 0
            with temporary.open("wb") as file:
                for chunk in _chunks(answer, host):
                    file.write(chunk)
                    md5.update(chunk)
                    done += len(chunk)
                    progress(source.name, done, total)
            if length and done != int(length):
                raise DownloadError(f"{host}: broke off after {done:,} of {int(length):,} bytes")
            if source.md5 and md5.hexdigest() not in source.md5:
                raise DownloadError(
                    f"{host}: wrong checksum: MD5 {md5.hexdigest()}, not {' or '.join(source.md5)}"
                )


def _chunks(answer: Any, host: str) -> Iterator[bytes]:
    """What the server sends; its errors are not the disk's."""
    while True:
        try:
            chunk: bytes = answer.read(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise DownloadError(f"{host}: {error}") from error
        if not chunk:
            return
        yield chunk


def room(folder: Path, size: int) -> None:
    """Refuse what will not fit.

    Raises:
        StorageError: The disk of ``folder`` has fewer than ``size`` bytes free.
    """
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise StorageError(
            f"no room in {folder}: {size / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free",
            hint="make room, or choose another disk with --data-dir, MSGM_BENCH_DATA (files) "
            "or MSGM_BENCH_CACHE (decoded images)",
        )


def unpack(archive: Path, folder: Path) -> None:
    """Put what a tar or zip archive holds into ``folder``, each top entry by one rename.

    Raises:
        StorageError: The archive is damaged, or the disk is full.
    """
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as place:
            if archive.suffix == ".zip":
                with zipfile.ZipFile(archive) as packed:
                    packed.extractall(place)
            else:
                with tarfile.open(archive) as packed:
                    packed.extractall(place, filter="data")
            for entry in Path(place).iterdir():
                shutil.rmtree(folder / entry.name, ignore_errors=True)
                entry.replace(folder / entry.name)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise StorageError(f"{archive} is damaged: {error}", hint="delete and fetch it") from error
    except OSError as error:
        raise StorageError(
            f"cannot unpack {archive}: {error.strerror or error}", hint="is the disk full?"
        ) from error
