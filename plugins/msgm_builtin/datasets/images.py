"""Image files as uint8 tensors, decoded once into a file that is mapped into memory.

The cache knows an image by its name within the folder and the SHA-256 of its bytes, and by nothing
that two files may share: no time, no size, no last part of a path. A file is read for its hash once
and when it has changed.
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
from msgm_builtin.datasets.decode import DECODE, Header, decode, read_header
from msgm_builtin.datasets.download import check_room
from msgm_builtin.datasets.files import LOG_INTERVAL, damaged, read_file
from msgm_builtin.datasets.hashes import known_hashes, read_statuses, store_hashes

CACHE = "MSGM_BENCH_CACHE"
MAX_BYTES = 2**28
CHUNK, GROUP, THREADS = 512, 16, min(8, os.cpu_count() or 1)
T = TypeVar("T")
U = TypeVar("U")

log = logging.getLogger("msgm_bench.data")


class ImageFile(NamedTuple):
    """An image file: its name within the folder, its path, and the SHA-256 of its bytes."""

    name: str
    path: Path
    sha256: bytes

    def read(self) -> bytes:
        """The bytes of ``sha256``.

        Raises:
            StorageError: The file has changed.
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
    """Conversion of an image file to an array.

    Attributes:
        channels: 1 for grey, 3 for colour.
        size: Height and width of the result.
        crop: Side of the centred square that is cut out first. None: the largest square, and an
            image that has the size already is left as it is.
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
        image = decode(path, content, self.channels)
        if self.crop is not None and min(image.size) < self.crop:
            w, h = image.size
            raise damaged(path, f"{w}x{h} pixels, smaller than the crop of {self.crop}")
        height, width = self.size
        if self.crop is not None or image.size != (width, height):
            image = resize(center_crop(image, self.crop or min(image.size)), height, width)
        return channels_first(image)


def center_crop(image: Image.Image, side: int) -> Image.Image:
    """The square of ``side`` pixels in the middle."""
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def resize(image: Image.Image, height: int, width: int) -> Image.Image:
    """Bilinear with antialiasing, in integers: the same bytes on every machine."""
    return image.resize((width, height), Image.Resampling.BILINEAR)


def channels_first(image: Image.Image) -> np.ndarray:
    """``uint8 [C, H, W]``."""
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def resize_all(x: np.ndarray, size: int) -> Tensor:
    """Colour images ``uint8 [N, 3, H, W]`` at ``size`` x ``size``."""
    if x.shape[-2:] == (size, size):
        return torch.from_numpy(np.ascontiguousarray(x))
    small = np.empty((len(x), 3, size, size), dtype=np.uint8)
    for i, item in enumerate(x):
        image = Image.fromarray(np.ascontiguousarray(item.transpose(1, 2, 0)))
        small[i] = channels_first(resize(image, size, size))
    return torch.from_numpy(small)


def hash_all(what: str, files: Mapping[str, Path]) -> list[ImageFile]:
    """Hash all ``files``; those that are untouched since they were hashed are not read again.

    Raises:
        StorageError: A file cannot be read.
    """
    paths, index = list(files.values()), _index_file(what, files)
    statuses = read_statuses(paths)
    hashes = known_hashes(index, statuses)
    unknown = [i for i, sha256 in enumerate(hashes) if sha256 is None]

    def hash_file(i: int) -> bytes:
        return hashlib.sha256(read_file(paths[i], MAX_BYTES)).digest()

    for i, sha256 in zip(
        unknown, _map_in_threads(f"{what}: reading", hash_file, unknown), strict=True
    ):
        hashes[i] = sha256
    known = [sha256 for sha256 in hashes if sha256 is not None]
    if unknown:
        store_hashes(index, statuses, known)
    return list(map(ImageFile, files, paths, known))


def _index_file(what: str, files: Mapping[str, Path]) -> Path:
    """The cache file of the hashes, named by all absolute paths."""
    sha = hashlib.sha256()
    for path in files.values():
        sha.update(os.fsencode(path.absolute()) + b"\0")
    return cache_folder() / f"{what}-hashes-{sha.hexdigest()[:32]}.npy"


def read_headers(what: str, images: Sequence[ImageFile]) -> list[Header]:
    """Headers of ``images``, from the user's cache if they are in it.

    Raises:
        StorageError: Files are no images, or are refused; names the first and counts the others.
    """
    path = _cache_file(what, "looks", images, "")
    if not path.exists():
        _store(path, np.asarray(list(_read_headers(what, images)), dtype=np.int64))
    return [Header(bool(grey), w, h) for grey, w, h in _load(path, (len(images), 3)).tolist()]


def decode_all(what: str, images: Sequence[ImageFile], recipe: Recipe) -> Tensor:
    """All ``images`` by ``recipe``, ``uint8 [N, C, H, W]``, mapped from the user's cache.

    A page of the cache file takes memory when it is first used.

    Raises:
        StorageError: An image is damaged or has changed, or the cache has no room.
    """
    path = _cache_file(what, "images", images, str(recipe))
    if not path.exists():
        check_room(path.parent, len(images) * int(np.prod(recipe.shape)))
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            if not path.exists():
                _write(what, path, images, recipe)
    return torch.from_numpy(_load(path, (len(images), *recipe.shape)))


def cache_folder() -> Path:
    """The folder of decoded images."""
    root = os.environ.get(CACHE) or platformdirs.user_cache_dir("msgm-bench")
    return Path(root).expanduser().absolute() / "decoded"


def _cache_file(what: str, kind: str, images: Iterable[ImageFile], recipe: str) -> Path:
    """The cache file, named by the decode, the recipe, and names and bytes of all images."""
    sha = hashlib.sha256(f"{kind} {DECODE} {recipe} {PIL.__version__}".encode())
    for image in images:
        name = os.fsencode(image.name)
        sha.update(len(name).to_bytes(8, "big") + name + image.sha256)
    return cache_folder() / f"{what}-{kind}-{sha.hexdigest()[:32]}.npy"


def _load(path: Path, shape: tuple[int, ...]) -> np.ndarray:
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


def _write(what: str, path: Path, images: Sequence[ImageFile], recipe: Recipe) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(images), *recipe.shape)}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        title = f"{what}: decoding, once,"
        for pixels in _map_in_threads(title, lambda i: recipe.apply(i.path, i.read()), images):
            file.write(pixels.tobytes())


def _read_headers(what: str, images: Sequence[ImageFile]) -> Iterator[Header]:
    failures: list[tuple[ImageFile, StorageError]] = []

    def attempt(image: ImageFile) -> Header | StorageError:
        try:
            return read_header(image.path, image.read())
        except StorageError as error:
            return error

    title = f"{what}: looking, once, at"
    for image, header in zip(images, _map_in_threads(title, attempt, images), strict=True):
        if isinstance(header, StorageError):
            failures.append((image, header))
        else:
            yield header
    if failures:
        first = failures[0][1]
        names = [image.name for image, _ in failures[1:]]
        more = f"; and {len(names):,} more: {_first_names(names)}" if names else ""
        raise StorageError(f"{first.what}{more}", hint=first.hint)


def _map_in_threads(title: str, work: Callable[[U], T], items: Sequence[U]) -> Iterator[T]:
    """``work(item)`` for all items, in order, with progress in the log where there are many."""
    if len(items) > CHUNK:
        log.info("%s %s images", title, f"{len(items):,}")
    done, last = 0, time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(items), CHUNK):
            part = items[start : start + CHUNK]
            groups = [part[i : i + GROUP] for i in range(0, len(part), GROUP)]
            for group in pool.map(lambda group: [work(item) for item in group], groups):
                yield from group
            done += len(part)
            if time.monotonic() - last >= LOG_INTERVAL:
                last = time.monotonic()
                log.info("%s %s of %s images", title, f"{done:,}", f"{len(items):,}")


def names_error(what: str, names: Sequence[str], hint: str) -> StorageError:
    """An error that names the first few of ``names`` and counts them."""
    return StorageError(f"{what}: {len(names):,}: {_first_names(names)}", hint=hint)


def _first_names(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
