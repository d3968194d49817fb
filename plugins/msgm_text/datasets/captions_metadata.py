"""Captions of images in a folder: ``metadata.csv`` or ``metadata.jsonl``, or folders' names.

diffusers and Hugging Face's ImageFolder read ``metadata.csv`` or ``metadata.jsonl`` beside the
images, or one of them in each of ``train`` and ``test`` (or ``validation``): a row an image, with
its path below that folder in ``file_name`` and its caption in ``text``. A column ``concepts`` names
what the image shows (in JSON a list, in CSV a list at commas). UnlearnCanvas has its images in
``STYLE/OBJECT/NUMBER.jpg``.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgm_bench import StorageError
from msgm_bench.storage import MIB, parse_json, read_text, single_line
from msgm_builtin.datasets.images import names_error
from msgm_builtin.datasets.table_text import read_rows
from msgm_builtin.datasets.walk import Listing
from msgm_text.datasets.prompt_table import MAX_NAME, check_text

FILES = ("metadata.jsonl", "metadata.csv")
TRAIN, HELD_OUT = "train", ("test", "validation", "val")
NAME, TEXT, CONCEPTS = "file_name", "text", "concepts"
LIMIT, MAX_ITEMS = 128 * MIB, 10_000_000
PLAIN, PHOTO = "Seed_Images", "Photo"  # the folder of images without a style, and its word


@dataclass(frozen=True)
class Caption:
    """An image and its caption.

    Attributes:
        image: Name of the image within the folder.
        text: The caption.
        concepts: What the image shows; None where the caption alone says it.
        test: Whether it is held out; None where the files do not say.
    """

    image: str
    text: str
    concepts: tuple[str, ...] | None = None
    test: bool | None = None


def read_captions(root: Path, content: Listing) -> list[Caption]:
    """Captions of all images, in the order of the images' names.

    Raises:
        StorageError: No metadata, metadata that are damaged or name other images than those of
            the folder.
    """
    own = [(root / name, "", None) for name in FILES]
    parts = [
        (root / part / name, f"{part}/", part != TRAIN)
        for part in (TRAIN, *HELD_OUT)
        for name in FILES
    ]
    files = [file for file in (*own, *parts) if file[0].is_file()]
    folders = [prefix for _, prefix, _ in files]
    held = [test for *_, test in files]
    whole = folders == [""] or (held.count(False) == 1 and held.count(True) == 1 == len(held) - 1)
    if not whole:
        names = ", ".join(single_line(path.relative_to(root)) for path, *_ in files) or "none"
        raise StorageError(
            f"{single_line(root)} holds {names} of the files of captions",
            f"one of {' and '.join(FILES)}, or one in each of {TRAIN} and {HELD_OUT[0]}",
            "the columns are file_name, text and, if you like, concepts; STYLE/OBJECT/1.jpg are "
            "read with -d layout=unlearncanvas",
        )
    captions = [row for path, prefix, test in files for row in _read(path, prefix, test, content)]
    _check_images(root, captions, content)
    return sorted(captions, key=lambda caption: caption.image)


def _read(path: Path, prefix: str, test: bool | None, content: Listing) -> list[Caption]:
    source = single_line(path)
    if path.suffix == ".csv":
        header, rows = read_rows(path, MAX_ITEMS)
        doubles = [name for name in (NAME, TEXT, CONCEPTS) if header.count(name) > 1]
        if doubles:
            raise StorageError(f"{source}: two columns are called {doubles[0]!r}", "one of them")
        records = [
            (f"{source}, row {i}", dict(zip(header, row, strict=True)))
            for i, row in enumerate(rows, 1)
        ]
    else:
        lines = read_text(path, limit=LIMIT).splitlines()
        places = ((f"{source}, line {i}", line) for i, line in enumerate(lines, 1) if line.strip())
        records = [(where, parse_json(line, where)) for where, line in places]
    content.skipped -= Counter([path.suffix])
    return [_caption(where, record, prefix, test, content) for where, record in records]


def _caption(where: str, record: Any, prefix: str, test: bool | None, content: Listing) -> Caption:
    if not isinstance(record, dict):
        raise StorageError(f"{where} holds {type(record).__name__}", "an object")
    for column in (NAME, TEXT):
        if not isinstance(record.get(column), str):
            raise StorageError(f"{where} has no text {column!r}", f"{NAME}, {TEXT}, {CONCEPTS}")
    image = _image(prefix, record[NAME], content.images)
    if image is None:
        raise StorageError(
            f"{where}: no image {single_line(prefix + record[NAME])[:200]}",
            "paths below the folder of the metadata",
            "take the row out, or put the image there",
        )
    text = check_text(f"{where}: {TEXT}", record[TEXT])
    return Caption(image, text, _concepts(where, record.get(CONCEPTS)), test)


def _concepts(where: str, value: object) -> tuple[str, ...] | None:
    """The concepts of a cell or of a list; None without a column."""
    if value is None:
        return None
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise StorageError(f"{where}: {CONCEPTS} {single_line(value)[:80]}", "a list of names")
    blank = isinstance(value, str) and not value.strip()
    checked = () if blank else (check_text(f"{where}: {CONCEPTS}", n, MAX_NAME) for n in names)
    return tuple(dict.fromkeys(checked))


def _image(prefix: str, name: str, images: Mapping[str, Path]) -> str | None:
    """The image that a row means, among those of the folder; None for any other."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    plain = prefix + "/".join(parts)
    spellings = (prefix + name, plain, *(unicodedata.normalize(f, plain) for f in ("NFC", "NFD")))
    return next((spelling for spelling in spellings if spelling in images), None)


def _check_images(root: Path, captions: Sequence[Caption], content: Listing) -> None:
    counts = Counter(caption.image for caption in captions)
    if not counts:
        raise StorageError(f"{single_line(root)}: no image has a caption", "a row for each image")
    if repeated := sorted(name for name, count in counts.items() if count > 1):
        raise names_error(f"{single_line(root)}: images with two captions", repeated, "leave one")
    if silent := sorted(set(content.images) - set(counts)):
        raise names_error(
            f"images in {single_line(root)} without a caption",
            silent,
            "add rows for them, or move them out of the folder",
        )


def read_style_folders(root: Path, content: Listing, text: str) -> list[Caption]:
    """Captions of ``STYLE/OBJECT/NUMBER.jpg``; images of ``Seed_Images`` have no style.

    Args:
        root: The folder.
        content: Its images.
        text: The caption, with the places ``{style}`` and ``{object}``.

    Raises:
        StorageError: An image lies in another depth, or there are none.
    """
    captions = []
    for name in content.images:
        folders = name.split("/")[:-1]
        if len(folders) != 2:
            raise StorageError(
                f"{single_line(root / name)} does not lie in STYLE/OBJECT", "STYLE/OBJECT/1.jpg"
            )
        style, kind = (check_text(f"a folder of {name}", f.replace("_", " ")) for f in folders)
        is_plain = folders[0] == PLAIN
        caption = text.replace("{style}", PHOTO if is_plain else style).replace("{object}", kind)
        captions.append(Caption(name, caption, (kind,) if is_plain else (style, kind)))
    if not captions:
        raise StorageError(f"no images in {single_line(root)}", "STYLE/OBJECT/1.jpg")
    return captions
