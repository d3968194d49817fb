"""Weights of judges and embedders: local files, which nothing downloads."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import AfterValidator
from torch import Tensor, nn

from msgm_bench import StorageError
from msgm_bench.storage import MIB, open_regular, single_line
from msgm_bench.storage.pickles import PICKLE_LIMIT, load_pickle
from msgm_bench.storage.tensors import open_tensors
from msgm_bench.storage.weights import check_finite, check_network
from msgm_builtin.data_folders import VARIABLE, named_folders, user_folder

NetworkT = TypeVar("NetworkT", bound=nn.Module)

ANYWHERE = Path("/")  # files that the user names may be links to any place
SEARCHED = f"{VARIABLE}, the user's data folder or torch hub's checkpoints"


def search_folders() -> list[Path]:
    """Folders that are searched for weights, in order."""
    return [*named_folders(), user_folder(), Path(torch.hub.get_dir()) / "checkpoints"]


def find_weights(name: str, path: str | None = None) -> Path | None:
    """The file or folder at ``path``; without one, ``name`` in the first folder that has it."""
    candidates = [Path(path).expanduser()] if path else [f / name for f in search_folders()]
    return next((candidate for candidate in candidates if candidate.exists()), None)


def _check_exists(path: str | None) -> str | None:
    # those of pathlib raise for names that are too long and for unknown users
    if path is not None and not os.path.exists(os.path.expanduser(path)):
        raise ValueError("there is nothing at this path")
    return path


ExistingPath = Annotated[str | None, AfterValidator(_check_exists)]
"""Path of an existing file or folder."""


def sha256(path: Path) -> str:
    """SHA-256 of a regular file, computed once for each state of the file.

    Raises:
        StorageError: The file cannot be read; its header is damaged, or it is too large.
    """
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    if path.suffix == ".safetensors":
        with open_tensors(path, ANYWHERE):  # a damaged header ends here, before the long read
            pass
    elif size > PICKLE_LIMIT:
        limit = f"at most {PICKLE_LIMIT / MIB:g} MiB"
        raise StorageError(f"{single_line(path)} has {size / MIB:,.0f} MiB", limit)
    with open_regular(path, ANYWHERE) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum_mismatch(path: Path) -> str | None:
    """Sentence on a file whose SHA-256 is not the one in its name, or None.

    The convention is torch hub's: ``name-6726825d.pth`` carries the start of the checksum.
    """
    stated = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", path.name)
    if stated is None or sha256(path).startswith(stated[1]):
        return None
    return f"the file {path.name} is damaged: its SHA-256 starts with {sha256(path)[:8]}"


def skeleton(build: Callable[[], NetworkT]) -> NetworkT:
    """``build()`` without memory for weights, unless the network computes while it is built."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return build()
        except (NotImplementedError, RuntimeError):
            return build()


def read_state(
    path: Path,
    inside: Path,
    network: nn.Module,
    convert: Callable[[Any], dict[str, Tensor]],
    name: str,
) -> tuple[dict[str, Tensor], str]:
    """The state of ``network`` in a file, and the SHA-256 of the bytes that were read.

    Args:
        path: A safetensors file, or a pickle of tensors.
        inside: The folder that the file may not leave.
        network: The network, which may be on ``meta``.
        convert: From the content of the file to today's names.
        name: The file in messages.

    Raises:
        StorageError: The file is damaged, or holds numbers that are not finite.
        IncompatibleError: The weights are of another network.
    """
    expected = network.state_dict()
    if path.suffix == ".safetensors":
        with open_tensors(path, inside) as file:
            check_network(name, convert(file.state), expected)
            content, sha256 = file.read_hashed()
    else:
        content, sha256 = load_pickle(path, inside)
    state = convert(content)
    check_network(name, state, expected)
    check_finite(name, state)
    return state, sha256
