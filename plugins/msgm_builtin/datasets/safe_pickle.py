"""Pickles of arrays, numbers and texts, read without a call of any function that they name.

Only the names in an array's pickle are known, and each stands for a function of this module that
accepts what NumPy writes and nothing else: protocol 2 of Python 2 up to protocol 5.
"""

from __future__ import annotations

import functools
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from msgm_builtin.datasets.files import damaged, read_file

MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
DTYPES = {"b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"}


def read_pickle(path: Path, limit: int) -> Any:
    """The value of a pickle file of at most ``limit`` bytes.

    Raises:
        StorageError: The file is cut short, is no pickle, or holds more than plain values and
            arrays.
    """
    content = read_file(path, limit)
    try:
        return ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # damaged pickles raise anything, says pickle's documentation
        raise damaged(path, str(error) or type(error).__name__) from error


class ArrayUnpickler(pickle.Unpickler):
    """Unpickler that rebuilds arrays and refuses any other name, without running it."""

    def find_class(self, module: str, name: str) -> Any:
        """This module's function of that name; a new object, since a pickle may alter it."""
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"it calls {module}.{name}, which no array does")
        known = KNOWN[module, name]
        return functools.partial(known) if callable(known) else known

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to objects outside of the pickle."""
        raise pickle.UnpicklingError("it refers to an object outside of the file")


class _NoCall:
    """Stands for ``numpy.ndarray``, which a pickle names and never calls."""

    __slots__ = ()


def _reconstruct(cls: Any, shape: Any, kind: Any) -> np.ndarray:
    """The empty array that the pickle then fills by ``__setstate__``."""
    if cls is not NDARRAY or shape != (0,) or kind not in (b"b", "b"):
        raise pickle.UnpicklingError("an array of an unknown kind")
    return np.empty(0, np.int8)


def _frombuffer(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """The array of protocol 5."""
    if not isinstance(dtype, np.dtype) or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array of an unknown kind")
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def _dtype(name: Any, align: Any = False, copy: Any = True) -> np.dtype[Any]:
    if name not in DTYPES:
        raise pickle.UnpicklingError(f"an array of {str(name)[:40]!r}")
    dtype: np.dtype[Any] = np.dtype(name, copy=True)
    return dtype


def _encode(text: Any, encoding: Any) -> bytes:
    """Bytes, as protocols below 3 write them."""
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError(f"text in {str(encoding)[:40]!r}")
    return text.encode("latin1")


NDARRAY = _NoCall()
KNOWN: dict[tuple[str, str], Any] = {
    **{(module, "_reconstruct"): _reconstruct for module in MODULES},
    **{(module, "_frombuffer"): _frombuffer for module in NUMERIC},
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
}
