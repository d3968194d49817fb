"""Image files to uint8 tensors, decoded once and kept in a file that is mapped into memory.

An image is known by its name within the folder and the SHA-256 of its bytes, and by nothing that
two files may share: no time, no size, no last part of a path.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import filelock
import numpy as np
import PIL
import platformdirs
import torch
from PIL import Image
from torch import Tensor

from msgm_bench import StorageError, atomic_write
from msgm_builtin.datasets.decode import DECODE, Look, decode, look
from msgm_builtin.datasets.download import room
from msgm_builtin.datasets.files import INTERVAL, damaged, read_file

CACHE = "MSGM_BENCH_CACHE"
MAX_BYTES = 2**28
CHUNK, GROUP, THREADS = 512, 16, min(8, os.cpu_count() or 1)
T = TypeVar("T")
U = TypeVar("U")

log = logging.getLogger("msgm_bench.data")


class Picture(NamedTuple):
    """An image file: its name within the folder, where it is, and the SHA-256 of its bytes."""

    name: str
    path: Path
    sha256: bytes

    def read(self) -> bytes:
        """The bytes that were hashed.

        Raises:
            StorageError: The file has changed since.
        """
        content = read_file(self.path, MAX_BYTES)
        if hashlib.sha256(content).digest() != self.sha256:
            raise StorageError(
                f"{self.path} changed while the folder was read",
                hint="leave the folder alone and repeat the command",
            )
        return content


@dataclass(frozen=True)
class Recipe:
    """How an image file becomes an array.

    Attributes:
        channels: 1 for grey, 3 for colour.
        size: Height and width of the result.
        crop: Side of the centred square that is cut out first; None: the largest one. An image
            that has the size already is left as it is.
    """

    channels: int
    size: tuple[int, int]
    crop: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one item."""
        return (self.channels, *self.size)

    def apply(self, path: Path, content: bytes) -> np.ndarray:
        """Decode, crop, resize: ``uint8 [C, H, W]``.

        Raises:
            StorageError: The file is no image, is cut short, or is smaller than the crop.
        """
        plain = decode(path, content, self.channels)
        if self.crop is not None and min(plain.size) < self.crop:
            w, h = plain.size
            raise damaged(path, f"{w}x{h} pixels, smaller than the crop of {self.crop}")
        height, width = self.size
        if self.crop is not None or plain.size != (width, height):
            plain = resized(centred(plain, self.crop or min(plain.size)), height, width)
        return channels_first(plain)


def centred(image: Image.Image, side: int) -> Image.Image:
    """The square of ``side`` pixels in the middle."""
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def resized(image: Image.Image, height: int, width: int) -> Image.Image:
    """Bilinear with antialiasing, in integers: the same bytes on every machine."""
    return image.resize((width, height), Image.Resampling.BILINEAR)


def channels_first(image: Image.Image) -> np.ndarray:
    """``uint8 [C, H, W]``."""
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def shrink(x: np.ndarray, size: int) -> Tensor:
    """Colour images ``uint8 [N, 3, H, W]`` at ``size`` x ``size``."""
    if x.shape[-2:] == (size, size):
        return torch.from_numpy(np.ascontiguousarray(x))
    small = np.empty((len(x), 3, size, size), dtype=np.uint8)
    for i, item in enumerate(x):
        image = Image.fromarray(np.ascontiguousarray(item.transpose(1, 2, 0)))
        small[i] = channels_first(resized(image, size, size))
    return torch.from_numpy(small)


def hashed(what: str, files: Mapping[str, Path]) -> list[Picture]:
    """All ``files``, read and hashed.

    Raises:
        StorageError: One cannot be read.
    """

    def picture(item: tuple[str, Path]) -> Picture:
        name, path = item
        return Picture(name, path, hashlib.sha256(read_file(path, MAX_BYTES)).digest())

    return list(_in_threads(f"{what}: reading", picture, list(files.items())))


def looks(what: str, pictures: Sequence[Picture]) -> list[Look]:
    """What the headers of ``pictures`` say, from the user's cache where they were seen before.

    Raises:
        StorageError: Some are no images, or are refused; names the first and counts the others.
    """
    path = _cached(what, "looks", pictures, "")
    if not path.exists():
        _store(path, np.asarray(list(_look_at(what, pictures)), dtype=np.int64))
    return [Look(bool(grey), w, h) for grey, w, h in _loaded(path, (len(pictures), 3)).tolist()]


def decoded(what: str, pictures: Sequence[Picture], recipe: Recipe) -> Tensor:
    """All ``pictures`` by ``recipe``, ``uint8 [N, C, H, W]``, mapped from the user's cache.

    Reading the cache file takes no memory until a page is looked at.

    Raises:
        StorageError: An image is damaged or has changed, or the cache has no room.
    """
    path = _cached(what, "images", pictures, str(recipe))
    if not path.exists():
        room(path.parent, len(pictures) * int(np.prod(recipe.shape)))
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            if not path.exists():
                _write(what, path, pictures, recipe)
    return torch.from_numpy(_loaded(path, (len(pictures), *recipe.shape)))


def cache_folder() -> Path:
    """Where decoded images are kept."""
    root = os.environ.get(CACHE) or platformdirs.user_cache_dir("msgm-bench")
    return Path(root).expanduser().absolute() / "decoded"


def _cached(what: str, kind: str, pictures: Iterable[Picture], recipe: str) -> Path:
    """The cache file that is named by the decode, the recipe, and names and bytes of all images."""
    sha = hashlib.sha256(f"{kind} {DECODE} {recipe} {PIL.__version__}".encode())
    for picture in pictures:
        name = os.fsencode(picture.name)
        sha.update(len(name).to_bytes(8, "big") + name + picture.sha256)
    return cache_folder() / f"{what}-{kind}-{sha.hexdigest()[:32]}.npy"


def _loaded(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="c")
    except (OSError, ValueError) as error:
        raise damaged(path, error, "delete it: it will be made again") from error
    if array.shape != shape:
        raise damaged(path, f"an array of {array.shape}", "delete it: it will be made again")
    return array


def _store(path: Path, array: np.ndarray) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array(file, array)


def _write(what: str, path: Path, pictures: Sequence[Picture], recipe: Recipe) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(pictures), *recipe.shape)}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        title = f"{what}: decoding, once,"
        for pixels in _in_threads(title, lambda p: recipe.apply(p.path, p.read()), pictures):
            file.write(pixels.tobytes())


def _look_at(what: str, pictures: Sequence[Picture]) -> Iterator[Look]:
    refused: list[tuple[Picture, StorageError]] = []

    def attempt(picture: Picture) -> Look | StorageError:
        try:
            return look(picture.path, picture.read())
        except StorageError as error:
            return error

    title = f"{what}: looking, once, at"
    for picture, seen in zip(pictures, _in_threads(title, attempt, pictures), strict=True):
        if isinstance(seen, StorageError):
            refused.append((picture, seen))
        else:
            yield seen
    if refused:
        first = refused[0][1]
        names = [picture.name for picture, _ in refused[1:]]
        more = f"; and {len(names):,} more: {_first(names)}" if names else ""
        raise StorageError(f"{first.what}{more}", hint=first.hint)


def _in_threads(title: str, work: Callable[[U], T], items: Sequence[U]) -> Iterator[T]:
    """``work`` on all items, in order, and a word in the log where there are many."""
    if len(items) > CHUNK:
        log.info("%s %s images", title, f"{len(items):,}")
    done, spoken = 0, time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(items), CHUNK):
            part = items[start : start + CHUNK]
            groups = [part[i : i + GROUP] for i in range(0, len(part), GROUP)]
            for group in pool.map(lambda group: [work(item) for item in group], groups):
                yield from group
            done += len(part)
            if time.monotonic() - spoken >= INTERVAL:
                spoken = time.monotonic()
                log.info("%s %s of %s images", title, f"{done:,}", f"{len(items):,}")


def missing(what: str, names: Sequence[str], hint: str) -> StorageError:
    """An error that names the first few of ``names`` and counts them."""
    return StorageError(f"{what}: {len(names):,}: {_first(names)}", hint=hint)


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
