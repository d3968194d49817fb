"""Small sheets of samples as PNG: for pages that show many methods, and steps of a training.

A sheet knows its captions. It shows as many samples as fit into a number
of bytes before compression, which depends on their size alone: sheets of one task show the same
samples. Gaps are transparent, so that it stands on any page.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin
from torch import Tensor
from torch.nn import functional as F

from msgm_bench.errors import StorageError
from msgm_bench.storage import atomic_write, parse_json, read_bytes, single_line

BUDGET, STEP_BUDGET = 60_000, 16_000  # bytes of the images before compression
LIMIT = 100_000  # bytes of a sheet that is read, at most
SIDE = 64  # pixels of an image, at most
IMAGES = 20  # images of a sheet with one caption, at most
ASPECT = 2.0  # width by height that a sheet of several captions is near to
CANVAS, RANGE = 128, 0.15  # pixels of a sheet of points; margin around them
INK = (74, 124, 189)  # of points, on light and on dark pages
CAPTIONS = "Captions"  # entry of the PNG
PIXELS = 2**20  # of a sheet that is read, at most
Extent = tuple[float, float, float, float]


@dataclass(frozen=True)
class Sheet:
    """A PNG with what it shows.

    Attributes:
        content: Its bytes.
        width: In pixels.
        height: In pixels.
        captions: What its parts show, in the order of reading.
    """

    content: bytes
    width: int
    height: int
    captions: tuple[str, ...]


def image_sheet(rows: Mapping[str, Tensor], budget: int = BUDGET) -> bytes:
    """A sheet of [0, 1] images ``[N, C, H, W]`` by caption, all of one size.

    One row becomes a square; of several the first images of each stand side by side, in the order
    of reading, and of too many rows an even choice is there.
    """
    images = {caption: thumbnails(x) for caption, x in rows.items()}
    most, size = max(map(len, images.values())), next(iter(images.values()))[0].numel()
    room = max(1, budget // size)
    if len(images) == 1:
        ((caption, x),) = images.items()
        count = min(most, IMAGES, room)
        return _encode([caption], list(x[:count]), math.ceil(math.sqrt(count)))
    names = list(images)
    blocks = min(len(images), room)
    chosen = [names[round(i * (len(names) - 1) / max(1, blocks - 1))] for i in range(blocks)]
    count = min(most, room // blocks)
    beside = max(1, round(math.sqrt(ASPECT * blocks / count)))
    cells: list[Tensor | None] = []
    for name in chosen:
        own = list(images[name][:count])
        cells += [*own, *[None] * (count - len(own))]
    return _encode(chosen, cells, beside * count)


def point_sheet(rows: Mapping[str, Tensor], extent: Extent) -> bytes:
    """A sheet of points ``[N, 2]``: their density inside ``extent``, left, right, bottom, top."""
    points = np.concatenate([x.float().cpu().numpy() for x in rows.values()])
    left, right, bottom, top = extent
    counts, _, _ = np.histogram2d(
        points[:, 1], points[:, 0], CANVAS, ((bottom, top), (left, right))
    )
    alpha = np.sqrt(counts / max(1.0, counts.max()))[::-1]
    pixels = np.empty((CANVAS, CANVAS, 4), np.uint8)
    pixels[..., :3] = INK
    pixels[..., 3] = np.rint(255 * alpha)
    return _png(pixels, [", ".join(rows)])


def extent_of(data: Mapping[str, Tensor]) -> Extent:
    """The part of the plane that points ``[N, 2]`` of the data take, with a margin."""
    points = np.concatenate([x.float().cpu().numpy() for x in data.values()])
    low, high = points.min(axis=0), points.max(axis=0)
    margin = RANGE * np.maximum(high - low, 1e-6)
    (left, bottom), (right, top) = low - margin, high + margin
    return float(left), float(right), float(bottom), float(top)


def sheet_of(
    rows: Mapping[str, Tensor], data: Mapping[str, Tensor], budget: int = BUDGET
) -> bytes | None:
    """The sheet of a task's rows; points lie in the extent of the data. None without any rows."""
    images = {caption: x for caption, x in rows.items() if x.ndim == 4 and len(x)}
    if images:
        size = next(iter(images.values())).shape[1:]
        return image_sheet({k: x for k, x in images.items() if x.shape[1:] == size}, budget)
    points = {caption: x for caption, x in rows.items() if x.ndim == 2 and len(x)}
    return point_sheet(points, extent_of(data)) if points and data else None


def thumbnails(x: Tensor) -> Tensor:
    """[0, 1] images ``[N, C, H, W]``, of which larger ones have their longer side at ``SIDE``."""
    longer = max(x.shape[2:])
    if longer <= SIDE:
        return x
    size = [max(1, round(SIDE * side / longer)) for side in x.shape[2:]]
    return F.interpolate(x, size, mode="area")


def read_sheet(path: Path, inside: Path) -> Sheet:
    """A sheet of a stranger's folder: a PNG of the size and the length that sheets have.

    Raises:
        StorageError: It is damaged, too large, no PNG, or says nothing of its captions.
    """
    content = read_bytes(path, inside, LIMIT)
    name = single_line(path)
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as opened:
            if opened.width * opened.height > PIXELS:
                raise ValueError(f"it has {opened.width} x {opened.height} pixels")
            opened.load()
            size, texts = opened.size, dict(getattr(opened, "text", {}))
        captions = parse_json(texts[CAPTIONS], name)
        if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
            raise ValueError("its captions are no texts")
        if not 0 < len(captions) <= size[1]:
            raise ValueError(f"it has {len(captions)} captions")
    except (OSError, ValueError, KeyError, SyntaxError, Image.DecompressionBombError) as error:
        raise StorageError(
            f"{name} is no sheet of samples: {single_line(error)[:120]}",
            f"a PNG of at most {LIMIT} bytes that `run` or `board build` wrote",
            "remove it, or import the run again",
        ) from error
    return Sheet(content, *size, tuple(captions))


def write_sheet(path: Path, content: bytes) -> None:
    """Write a sheet atomically.

    Raises:
        StorageError: It cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def _encode(captions: list[str], cells: Sequence[Tensor | None], columns: int) -> bytes:
    """A PNG of images in the order of reading: grey or coloured, with transparent gaps."""
    channels, height, width = next(cell.shape for cell in cells if cell is not None)
    gap = max(1, width // 16)
    tall, wide = height + gap, width + gap
    depth = (1 if channels == 1 else 3) + 1
    lines, columns = math.ceil(len(cells) / columns), min(columns, len(cells))
    pixels = np.zeros((lines * tall - gap, columns * wide - gap, depth), np.uint8)
    for i, image in enumerate(cells):
        if image is None:
            continue
        top, left = tall * (i // columns), wide * (i % columns)
        place = pixels[top : top + height, left : left + width]
        finite = image.float().nan_to_num(0.0, 0.0, 0.0).clamp(0, 1).cpu()
        place[..., :-1] = np.rint(255 * finite.permute(1, 2, 0).numpy())
        place[..., -1] = 255
    return _png(pixels, captions)


def _png(pixels: npt.NDArray[np.uint8], captions: list[str]) -> bytes:
    texts = PngImagePlugin.PngInfo()
    texts.add_text(CAPTIONS, json.dumps(captions))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True, pnginfo=texts)
    return stream.getvalue()
