"""Files of tensors joined into one along the first dimension, in the memory of one small file.

The bytes are those that safetensors itself writes of the joined tensors: the header in its order,
the widest dtypes first and names within a dtype, padded with spaces to eight bytes.

Source: https://github.com/huggingface/safetensors, ``safetensors/src/tensor.rs`` (``prepare``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from msgm_bench.errors import StorageError
from msgm_bench.storage.atomic import atomic_write
from msgm_bench.storage.names import single_line
from msgm_bench.storage.tensors import DTYPES, Layout, open_tensors, tensor_bytes

WIDEST_FIRST = ("I64", "F64", "F32", "I32", "BF16", "F16", "I16", "I8", "U8", "BOOL")
ALIGNMENT = 8  # bytes


def concatenate_files(path: Path, parts: Sequence[Path]) -> None:
    """Write ``path`` atomically: each tensor of ``parts``, joined along the first dimension.

    Raises:
        StorageError: A part is damaged, or has other tensors than the first; the disk is full.
    """
    joined = _joined_layout(parts)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(_header(joined))
        for name in joined:
            for part in parts:
                with open_tensors(part) as source:
                    file.write(tensor_bytes(source.read_one(name)))


def _joined_layout(parts: Sequence[Path]) -> dict[str, Layout]:
    """Dtype, shape and place of each joined tensor, in the order of the file."""
    layouts: list[Mapping[str, Layout]] = []
    for part in parts:
        with open_tensors(part) as source:
            layouts.append(source.layout)
            scalars = [name for name, at in source.layout.items() if not at.shape]
            if scalars or _kinds(source.layout) != _kinds(layouts[0]):
                raise StorageError(
                    f"{single_line(part)} and {single_line(parts[0])} cannot be joined",
                    "tensors of the same names, dtypes and shapes but for the first dimension",
                    "repeat the command: delete both files if it fails again",
                )
    names = sorted(layouts[0], key=lambda name: (_rank(layouts[0][name].dtype), name))
    joined, start = {}, 0
    for name in names:
        first = layouts[0][name]
        count = sum(layout[name].shape[0] for layout in layouts)
        stop = start + sum(layout[name].stop - layout[name].start for layout in layouts)
        joined[name] = Layout(first.dtype, (count, *first.shape[1:]), start, stop)
        start = stop
    return joined


def _kinds(layout: Mapping[str, Layout]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    return {name: (at.dtype, at.shape[1:]) for name, at in layout.items()}


def _rank(dtype: torch.dtype) -> int:
    return WIDEST_FIRST.index(_dtype_name(dtype))


def _dtype_name(dtype: torch.dtype) -> str:
    return next(name for name, other in DTYPES.items() if other is dtype)


def _header(layout: Mapping[str, Layout]) -> bytes:
    """The eight bytes of the length, and the header."""
    entries = {
        name: {
            "dtype": _dtype_name(at.dtype),
            "shape": list(at.shape),
            "data_offsets": [at.start, at.stop],
        }
        for name, at in layout.items()
    }
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
