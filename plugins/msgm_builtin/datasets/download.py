"""Downloads: complete and verified, or nothing."""

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

TIMEOUT = 30.0  # seconds without a response
CHUNK = 1 << 20
UNPACKED = 2.2  # size of an archive of images and its content, over that of the archive


class DownloadError(StorageError):
    """An address does not give the file; the next one may."""


def download(source: Source, folder: Path, progress: Progress) -> Path:
    """Download ``source`` from the first of its addresses that gives it whole.

    The file appears under its name by one rename, after a comparison of its checksum, or of its
    length where no checksum is known.

    Raises:
        StorageError: No address gives the file, or the disk has no room.
    """
    path, errors = folder / source.name, []
    for url in source.urls:
        try:
            _download_from(url, source, path, progress)
        except DownloadError as error:
            errors.append(error.what)
        else:
            return path
    raise DownloadError(f"cannot download {source.name}: {'; '.join(errors) or 'no address'}")


def _download_from(url: str, source: Source, path: Path, progress: Progress) -> None:
    """Download from one address.

    Raises:
        DownloadError: The address does not give the file whole.
        StorageError: The disk has no room.
    """
    host = urlsplit(url).netloc or url
    try:
        response = urllib.request.urlopen(url, timeout=TIMEOUT)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadError(f"{host}: {getattr(error, 'reason', None) or error}") from error
    with response:
        length = response.headers.get("Content-Length")
        total = int(length) if length else source.size
        check_room(path.parent, int((total or 0) * (UNPACKED if source.holds else 1.0)))
        with atomic_write(path) as temporary:
            md5, done = hashlib.md5(usedforsecurity=False), 0
            with temporary.open("wb") as file:
                for chunk in _chunks(response, host):
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


def _chunks(response: Any, host: str) -> Iterator[bytes]:
    """The content in chunks; errors of the server become ``DownloadError``."""
    while True:
        try:
            chunk: bytes = response.read(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise DownloadError(f"{host}: {error}") from error
        if not chunk:
            return
        yield chunk


def check_room(folder: Path, size: int) -> None:
    """Refuse a size that does not fit on the disk.

    Raises:
        StorageError: The disk of ``folder`` has fewer than ``size`` bytes free.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < size:
        raise StorageError(
            f"no room in {folder}: {size / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free",
            hint="make room, or choose another disk with --data-dir, MSGM_BENCH_DATA (files) "
            "or MSGM_BENCH_CACHE (decoded images)",
        )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip archive into ``folder``, each top entry by one rename.

    Raises:
        StorageError: The archive is damaged, or the disk is full.
    """
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as temporary:
            if archive.suffix == ".zip":
                with zipfile.ZipFile(archive) as content:
                    content.extractall(temporary)
            else:
                with tarfile.open(archive) as content:
                    content.extractall(temporary, filter="data")
            for entry in Path(temporary).iterdir():
                shutil.rmtree(folder / entry.name, ignore_errors=True)
                entry.replace(folder / entry.name)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise StorageError(f"{archive} is damaged: {error}", hint="delete and fetch it") from error
    except OSError as error:
        raise StorageError(
            f"cannot unpack {archive}: {error.strerror or error}", hint="is the disk full?"
        ) from error
