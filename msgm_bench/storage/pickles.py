"""Published weights in torch's pickle format, read by its restricted unpickler only."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msgm_bench.errors import StorageError
from msgm_bench.storage.names import single_line
from msgm_bench.storage.readers import MIB, error_summary, read_bytes

PICKLE_LIMIT = 4096 * MIB


def load_pickle(
    path: Path, inside: Path | None = None, limit: int = PICKLE_LIMIT
) -> tuple[Any, str]:
    """Tensors of a file of ``torch.save``, and the SHA-256 of its bytes.

    The reader is torch's restricted unpickler.

    Raises:
        StorageError: It is not there, no regular file, too large, damaged, or not of tensors only.
    """
    name, content = single_line(path), read_bytes(path, inside, limit)
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        _check_archive(content)
        value = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        _check_storages(value, len(content))
    except Exception as error:
        reason = error_summary(error).partition(". ")[0]
        raise StorageError(
            f"{name} cannot be read as weights that torch saved: {reason}",
            "a state_dict of tensors, or better a safetensors file",
            "the file is damaged or holds more than weights: get it again",
        ) from error
    return value, sha256


def _check_archive(content: bytes) -> None:
    """Refuse a zip archive that grows when it is unpacked; older files are no archives.

    Raises:
        ValueError: It is compressed.
    """
    if not content.startswith(b"PK"):
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("the archive is compressed")
        if sum(member.file_size for member in archive.infolist()) > len(content):
            raise ValueError("the archive is larger inside than outside")


def _check_storages(value: Any, size: int) -> None:
    """Refuse tensors that have more memory than the file has bytes.

    Raises:
        ValueError: Their storages are larger than the file.
    """
    storages = {part.data_ptr(): part.nbytes() for part in _storages(value)}
    if sum(storages.values()) > size:
        raise ValueError("the tensors are larger than the file")


def _storages(value: Any) -> Iterator[torch.UntypedStorage]:
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _storages(part)
    elif isinstance(value, Tensor):
        yield value.untyped_storage()
