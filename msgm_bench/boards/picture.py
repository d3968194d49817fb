"""The picture of a board: methods as rows, prompts as columns, the same noise in each column."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from msgm_bench.api.result import Result, digest
from msgm_bench.boards.board import PICTURE_FILE, Board, Picture
from msgm_bench.boards.sample_sheets import IMAGES
from msgm_bench.errors import StorageError, UsageError, did_you_mean
from msgm_bench.report import saved_images
from msgm_bench.report.image_table import Table, draw_tables
from msgm_bench.report.sample_sheets import thumbnails
from msgm_bench.storage import MIB, read_bytes, single_line, storage_errors

PICTURE_LIMIT = 64 * MIB


def import_images(board: Board, folder: Path, run: Path, result: Result) -> None:
    """Save the images of a run that the board's picture shows; remove older ones without any.

    Raises:
        StorageError: The saved images of the run are damaged, or a file cannot be written.
    """
    picture, spec = board.picture, result.spec
    if picture is None or spec.seed != picture.seed:
        return
    rows = saved_images.read(run).get(picture.task, {})
    chosen = {name: thumbnails(x[: picture.images]) for name, x in rows.items() if x.ndim == 4}
    target = folder / IMAGES / spec.method
    if chosen:
        target.mkdir(parents=True, exist_ok=True)
        saved_images.write(target, {picture.task: chosen})
    else:
        remove(target / saved_images.IMAGES_FILE)


def table(board: Board, folder: Path, methods: Sequence[str]) -> Table | None:
    """The table of images, without methods that left none; None where no method left any.

    Raises:
        StorageError: Images cannot be read, or lead out of the board.
        UsageError: The board names a column that no method has.
    """
    picture = board.picture
    if picture is None:
        return None
    rows = {}
    for method in methods:
        place = folder / IMAGES / method
        images = saved_images.read(place, inside=folder).get(picture.task, {})
        if images:
            rows[method] = images
    columns = list(dict.fromkeys(caption for images in rows.values() for caption in images))
    if not columns:
        return None
    return Table(f"{board.title}: seed {picture.seed}", _chosen(picture, columns), rows)


def _chosen(picture: Picture, captions: list[str]) -> list[str]:
    """The columns that the board names, or all."""
    for name in picture.captions or []:
        if name not in captions:
            raise UsageError(
                f"picture.captions: no method has images of {name!r}{did_you_mean(name, captions)}",
                ", ".join(captions),
            )
    return picture.captions or captions


def source(content: Table) -> str:
    """SHA-256 of what the picture shows: title, columns, and images by row and column."""
    images = {
        row: {caption: _sha256(x) for caption, x in cells.items() if caption in content.columns}
        for row, cells in content.rows.items()
    }
    return digest([content.title, list(content.columns), list(images.items())])


def _sha256(x: Tensor) -> str:
    return hashlib.sha256(repr(tuple(x.shape)).encode() + x.numpy().tobytes()).hexdigest()


def draw(folder: Path, content: Table | None) -> None:
    """Draw the picture beside the page, or remove one that shows nothing any more.

    Raises:
        StorageError: It cannot be written.
    """
    if content is None:
        remove(folder / PICTURE_FILE)
    else:
        draw_tables(folder / PICTURE_FILE, [content], source(content))


def stale_picture(folder: Path, content: Table | None) -> str | None:
    """Why the picture is not the one of these images, with the command that draws it, or None.

    What it was drawn from is in its entry ``Source``, since another matplotlib draws other pixels.
    """
    path = folder / PICTURE_FILE
    again = f"run msgm-bench board build {single_line(folder)}"
    if content is None:
        return f"{PICTURE_FILE} shows no images of the board: {again}" if path.exists() else None
    if not path.exists():
        return f"{PICTURE_FILE} is missing: {again}"
    try:
        with Image.open(io.BytesIO(read_bytes(path, folder, PICTURE_LIMIT))) as opened:
            fits = opened.info.get("Source") == source(content)
    except (StorageError, OSError, ValueError, Image.DecompressionBombError):
        fits = False
    return None if fits else f"{PICTURE_FILE} is stale: {again}"


def remove(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        StorageError: It cannot be removed.
    """
    with storage_errors(path):
        path.unlink(missing_ok=True)
