"""Image files to uint8 tensors, decoded once and kept in a file that is mapped into memory."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
import platformdirs
import torch
from PIL import Image
from torch import Tensor

from msgm_bench import StorageError, atomic
from msgm_datasets.download import room
from msgm_datasets.files import INTERVAL, damaged

CACHE = "MSGM_BENCH_CACHE"
VERSION = 1  # of the decoding below: a new one decodes anew
CHUNK = 512
MODES = {1: "L", 3: "RGB"}

log = logging.getLogger("msgm_bench.data")


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

    def apply(self, path: Path) -> np.ndarray:
        """Decode, crop, resize: ``uint8 [C, H, W]``.

        Raises:
            StorageError: The file is no image, is cut short, or is smaller than the crop.
        """
        try:
            with Image.open(path) as image:
                plain = image.convert(MODES[self.channels])
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise damaged(path, error) from error
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
    found = np.empty((len(x), 3, size, size), dtype=np.uint8)
    for i, item in enumerate(x):
        image = Image.fromarray(np.ascontiguousarray(item.transpose(1, 2, 0)))
        found[i] = channels_first(resized(image, size, size))
    return torch.from_numpy(found)


def decoded(what: str, files: Sequence[Path], recipe: Recipe) -> Tensor:
    """All ``files`` by ``recipe``, ``uint8 [N, C, H, W]``, mapped from the user's cache.

    The cache file is named by a hash of the recipe and of the names, sizes and times of the
    files; reading it takes no memory until a page is looked at.

    Raises:
        StorageError: An image is damaged, or the cache has no room.
    """
    folder = cache_folder()
    path = folder / f"{what}-{fingerprint(files, recipe)[:16]}.npy"
    if not path.exists():
        room(folder, len(files) * int(np.prod(recipe.shape)))
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            if not path.exists():
                _store(what, path, files, recipe)
    try:
        return torch.from_numpy(np.load(path, mmap_mode="c"))
    except (OSError, ValueError) as error:
        raise damaged(path, error, "delete it: it will be made again") from error


def cache_folder() -> Path:
    """Where decoded images are kept."""
    root = os.environ.get(CACHE) or platformdirs.user_cache_dir("msgm-bench")
    return Path(root).expanduser().absolute() / "decoded"


def fingerprint(files: Iterable[Path], recipe: Recipe) -> str:
    """SHA-256 of the recipe and of what the folder says about each file."""
    sha = hashlib.sha256(f"{VERSION} {recipe} {Image.__version__}".encode())
    for path in files:
        stat = path.stat()
        sha.update(f"\n{path.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return sha.hexdigest()


def _store(what: str, path: Path, files: Sequence[Path], recipe: Recipe) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(files), *recipe.shape)}
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for pixels in _decode(what, files, recipe):
            file.write(pixels.tobytes())


def _decode(what: str, files: Sequence[Path], recipe: Recipe) -> Iterator[np.ndarray]:
    """Chunks of decoded images, in order, and a word in the log now and then."""
    if len(files) > CHUNK:
        log.info("%s: decoding %s images, once", what, f"{len(files):,}")
    done, told = 0, time.monotonic()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(files), CHUNK):
            part = list(pool.map(recipe.apply, files[start : start + CHUNK]))
            yield np.stack(part)
            done += len(part)
            if time.monotonic() - told >= INTERVAL:
                told = time.monotonic()
                log.info("%s: %s of %s images decoded", what, f"{done:,}", f"{len(files):,}")


def missing(what: str, names: Sequence[str], hint: str) -> StorageError:
    """An error that names the first few of ``names`` and counts them."""
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return StorageError(f"{what}: {len(names):,}: {shown}", hint=hint)
