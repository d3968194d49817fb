"""Tensors on disk: the one reader of safetensors, and the writer of tensors in memory.

A safetensors file is eight bytes N (little endian), N bytes of JSON that name dtype, shape and
offsets of each tensor, and the tensors. It is opened once; its header is checked, and may be
compared with a network on the ``meta`` device, before memory is allocated; the hashed bytes are the
bytes of the tensors.

Source: https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save, save_file
from torch import Tensor

from msgm_bench.errors import StorageError
from msgm_bench.storage.atomic import atomic_write
from msgm_bench.storage.names import single_line
from msgm_bench.storage.readers import MIB, error_summary, open_regular, parse_json

HEADER_LIMIT, TENSORS, DIMENSIONS, NAME = 16 * MIB, 100_000, 8, 1_000
METADATA = "__metadata__"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Layout:
    """Layout of a tensor: dtype, shape, and bytes [start, stop) behind the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


class TensorFile:
    """An open safetensors file with a checked header.

    Args:
        file: Open at its first byte.
        name: The file's name, for messages.
        limit: The largest size in bytes.

    Attributes:
        layout: Each tensor's place, in the order of the bytes.
        metadata: Texts that the writer put beside the tensors.

    Raises:
        StorageError: The header is damaged, or names anything but tensors that tile the file.
    """

    def __init__(self, file: BinaryIO, name: str, limit: int | None = None) -> None:
        self.name, self._file = name, file
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if limit is not None and size > limit:
            raise StorageError(f"{name} is larger than {limit / MIB:g} MiB", "a smaller file")
        self._length = file.read(8)
        length = int.from_bytes(self._length, "little")
        if len(self._length) < 8 or length > min(HEADER_LIMIT, size - 8):
            raise self._damage_error("its header is longer than the file, or than 16 MiB")
        self._header = file.read(length)
        self.metadata: dict[str, str] = {}
        self.layout = self._parse(size - 8 - length)

    @property
    def state(self) -> dict[str, Tensor]:
        """The tensors on ``meta``: names, dtypes and shapes without memory."""
        return {
            name: torch.empty(at.shape, dtype=at.dtype, device="meta")
            for name, at in self.layout.items()
        }

    def read(self) -> dict[str, Tensor]:
        """The tensors.

        Raises:
            StorageError: The file has changed since it was opened, or holds a bool above 1.
        """
        self._file.seek(8 + len(self._header))
        return {name: self._tensor(name, at) for name, at in self.layout.items()}

    def read_one(self, name: str) -> Tensor:
        """One of the tensors.

        Raises:
            StorageError: As ``read``.
        """
        at = self.layout[name]
        self._file.seek(8 + len(self._header) + at.start)
        return self._tensor(name, at)

    def map(self) -> dict[str, Tensor]:
        """The tensors, mapped: a page takes memory when it is first used, and may be dropped again.

        What is written into them stays in memory. The file must not become shorter.

        Raises:
            StorageError: A tensor holds a bool above 1.
        """
        return {
            name: self._mapped(name, at) if at.stop > at.start else self.read_one(name)
            for name, at in self.layout.items()
        }

    def read_hashed(self) -> tuple[dict[str, Tensor], str]:
        """The tensors, and the SHA-256 of exactly the bytes of header and tensors.

        Raises:
            StorageError: As ``read``.
        """
        state = self.read()
        sha = hashlib.sha256(self._length)
        sha.update(self._header)
        for tensor in state.values():
            sha.update(tensor_bytes(tensor))
        return state, sha.hexdigest()

    def _mapped(self, name: str, at: Layout) -> Tensor:
        offset = 8 + len(self._header) + at.start
        pages = np.memmap(self._file, np.uint8, "c", offset, (at.stop - at.start,))
        raw = torch.from_numpy(pages)
        self._check_bools(name, at, raw)
        return raw.view(at.dtype).reshape(at.shape)

    def _tensor(self, name: str, at: Layout) -> Tensor:
        tensor = torch.empty(at.shape, dtype=at.dtype)
        content = tensor_bytes(tensor)
        try:
            count = self._file.readinto(content) if len(content) else 0  # type: ignore[attr-defined]
        except OSError as error:
            raise self._damage_error(error_summary(error)) from error
        if count != at.stop - at.start:
            raise self._damage_error("it became shorter while it was read")
        self._check_bools(name, at, tensor)
        return tensor

    def _check_bools(self, name: str, at: Layout, tensor: Tensor) -> None:
        if at.dtype is torch.bool and bool((tensor.view(torch.uint8) > 1).any()):
            raise self._damage_error(f"{single_line(name)} holds bytes that are neither 0 nor 1")

    def _parse(self, size: int) -> dict[str, Layout]:
        try:
            text = self._header.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._damage_error("its header is no UTF-8") from error
        header = parse_json(text, f"the header of {self.name}")
        if not isinstance(header, dict) or len(header) > TENSORS:
            raise self._damage_error(f"its header is no table of at most {TENSORS} tensors")
        metadata = header.pop(METADATA, {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise self._damage_error("its metadata are no texts")
        self.metadata = metadata
        layout = {name: self._entry(name, entry) for name, entry in header.items()}
        ordered = sorted(layout.items(), key=lambda item: (item[1].start, item[1].stop))
        end = 0
        for name, at in ordered:
            if at.start != end:
                raise self._damage_error(
                    f"{single_line(name[:80])} does not begin where another ends"
                )
            end = at.stop
        if end != size:
            raise self._damage_error(f"its tensors have {end} bytes, and it holds {size}")
        return dict(ordered)

    def _entry(self, name: str, entry: Any) -> Layout:
        label = single_line(name[:80])
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise self._damage_error(f"{label} is no tensor")
        dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
        if dtype is None:
            raise self._damage_error(f"{label} has the dtype {str(entry['dtype'])[:20]!r}")
        shape, offsets = entry["shape"], entry["data_offsets"]
        if not _are_counts(shape) or len(shape) > DIMENSIONS or len(name) > NAME:
            raise self._damage_error(f"{label} has no shape of at most {DIMENSIONS} sizes")
        if not _are_counts(offsets) or len(offsets) != 2:
            raise self._damage_error(f"{label} has no offsets")
        if offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
            raise self._damage_error(f"{label} has other bytes than its shape")
        return Layout(dtype, tuple(shape), *offsets)

    def _damage_error(self, reason: str) -> StorageError:
        return StorageError(
            f"{self.name} cannot be read: {reason}",
            "a safetensors file of tensors and nothing else",
            "the file is damaged or no safetensors: get it again",
        )


@contextlib.contextmanager
def open_tensors(
    path: Path, inside: Path | None = None, limit: int | None = None
) -> Iterator[TensorFile]:
    """A safetensors file with its header read and checked.

    Args:
        path: The file.
        inside: The folder in which it must lie after links are followed; its own by default.
        limit: The largest size in bytes; None where something else bounds it.

    Raises:
        StorageError: It is not there, no regular file, too large or damaged.
    """
    with open_regular(path, inside) as file:
        yield TensorFile(file, single_line(path), limit)


def load_tensors(
    path: Path, inside: Path | None = None, limit: int | None = None
) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        StorageError: As ``open_tensors``.
    """
    with open_tensors(path, inside, limit) as file:
        return file.read()


def map_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file that this program wrote, mapped as ``TensorFile.map`` does.

    Raises:
        StorageError: As ``open_tensors``.
    """
    with open_tensors(path) as file:
        return file.map()


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file atomically.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    cpu_tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        try:
            save_file(cpu_tensors, temporary)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def pack_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file in memory; equal tensors give equal bytes."""
    # tensors that share memory, as parts of one do, are refused by safetensors
    cpu_tensors = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()
    }
    content: bytes = save(cpu_tensors)
    return content


def unpack_tensors(content: bytes, name: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file in memory; ``name`` names it in errors.

    Raises:
        StorageError: It is damaged, or names anything but tensors.
    """
    return TensorFile(io.BytesIO(content), name).read()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU."""
    content: memoryview = tensor.reshape(-1).view(torch.uint8).numpy().data
    return content


def _are_counts(values: Any) -> bool:
    """Whether ``values`` is a list of integers in [0, 2^63)."""
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < 2**63 for value in values
    )
