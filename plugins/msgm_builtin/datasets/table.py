"""A user's table of labels: the class of each image, or its attributes."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from msgm_bench import UsageError
from msgm_builtin.datasets.files import damaged
from msgm_builtin.datasets.images import names_error
from msgm_builtin.datasets.table_text import read_rows

Reading = Literal["classes", "attributes"] | None
SPLIT = ("split", "partition", "subset")
TRUE, FALSE = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}
MINUS = {"-1", "-1.0"}  # false where nothing else is
PARTS = {
    **dict.fromkeys(("train", "training", "0"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "1"), "val"),
    **dict.fromkeys(("test", "testing", "2"), "test"),
}
COLUMNS = "one column of class names, or columns of 0 (or -1) and 1"


@dataclass(frozen=True)
class Table:
    """Files, their labels and their split, in one order.

    Attributes:
        files: Paths by name.
        labels: ``int64 [N]`` classes, or ``bool [N, A]`` attributes.
        classes: Names of the classes or of the attributes.
        test: Mask ``[N]`` of the items that the user holds out; None without a split.
    """

    files: Mapping[str, Path]
    labels: Tensor
    classes: tuple[str, ...]
    test: Tensor | None


def read_table(
    path: Path,
    images: Mapping[str, Path],
    reading: Reading = None,
    test_part: str | None = None,
    skipped: Counter[str] | None = None,
) -> Table:
    """The table for exactly ``images``.

    Args:
        path: The CSV file; its first column names images.
        images: Paths by name.
        reading: Meaning of a single column of 0 and 1.
        test_part: The held-out part, ``test`` or ``val``, where the table has both.
        skipped: Counter that receives the rows of a part that is not used.

    Raises:
        UsageError: A column or value that is neither a class nor an attribute or may be both; one
            class only; parts that may both be the held-out one.
        StorageError: Files in the table alone, or in the folder alone.
    """
    header, rows = read_rows(path, 2 * len(images) + 1000)
    _check_header(path, header, rows, images)
    names = _names(path, [row[0] for row in rows], images)
    columns = list(range(1, len(header)))
    split = next((i for i in columns if header[i].casefold() in SPLIT), None)
    test = None
    if split is None and test_part is not None:
        raise UsageError(f"-d test_part={test_part}, and {path} has no column split", "one of both")
    if split is not None:
        columns.remove(split)
        parts = _parts(path, [row[split].casefold() for row in rows], test_part)
        chosen = [i for i, part in enumerate(parts) if part is not None]
        if skipped is not None and len(chosen) < len(rows):
            skipped["of another part"] += len(rows) - len(chosen)
        names, rows = [names[i] for i in chosen], [rows[i] for i in chosen]
        test = torch.tensor([parts[i] for i in chosen])
    values = [[row[i] for i in columns] for row in rows]
    labels, classes = _labels(path, [header[i] for i in columns], names, values, reading)
    return Table({name: images[name] for name in names}, labels, classes, test)


def _check_header(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], images: Mapping[str, Path]
) -> None:
    """Refuse a table without a header, with two columns of one name, or with images not first.

    Raises:
        StorageError: The table is one of these.
    """
    if _image(header[0], images) is not None:
        raise damaged(
            path, f"its first row is that of {header[0]}", "a header above it: file,label"
        )
    if repeated := [name for name, count in Counter(header).items() if count > 1]:
        raise damaged(path, f"two columns are called {repeated[0]!r}", "a name for each column")
    if unnamed := [i for i, name in enumerate(header) if not name and i > 0]:
        raise damaged(path, f"column {unnamed[0] + 1} has no name", "a name for each column")
    first = rows[0]
    if _image(first[0], images) is None:
        for i, cell in enumerate(first):
            if _image(cell, images) is not None:
                raise damaged(
                    path,
                    f"its first column ({first[0]!r}) names no images, column {header[i]!r} does",
                    "put the column of the images' names first, and take out a running number",
                )


def _image(name: str, images: Mapping[str, Path]) -> str | None:
    r"""The image that a table means: its name in the folder, ``./x`` or ``x\y``; or None."""
    plain = name.replace("\\", "/")
    plain = "/".join(part for part in plain.split("/") if part not in ("", "."))
    spellings = (name, plain, *(unicodedata.normalize(form, plain) for form in ("NFC", "NFD")))
    return next((spelling for spelling in spellings if spelling in images), None)


def _names(path: Path, column: Sequence[str], images: Mapping[str, Path]) -> list[str]:
    """Names in the folder of the table's images.

    Raises:
        StorageError: An image is in one of them alone, or twice in the table.
    """
    matches = [(_image(name, images), name) for name in column]
    if absent := [name for image, name in matches if image is None]:
        raise names_error(
            f"{path} names images that are not in {path.parent}",
            absent,
            "take the rows out, or put the images there; names are relative to the folder",
        )
    names = [image for image, _ in matches if image is not None]
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise names_error(f"{path} names images twice", repeated, "leave one row for each")
    if unknown := sorted(set(images) - set(names)):
        raise names_error(
            f"images in {path.parent} of which {path.name} says nothing",
            unknown,
            "add rows for them, or move them out of the folder",
        )
    return names


def _parts(path: Path, values: Sequence[str], test_part: str | None) -> list[bool | None]:
    """Whether each row is held out; None for a row of a part that is not used.

    Raises:
        UsageError: An unknown part, one part alone, or two that may be the held-out one.
    """
    if unknown := sorted(set(values) - set(PARTS)):
        raise UsageError(f"{path}: split {unknown[0]!r}", ", ".join(PARTS))
    parts = [PARTS[value] for value in values]
    held_out = sorted(set(parts) - {"train"})
    if "train" not in parts or not held_out:
        raise UsageError(f"{path}: every image is in one split", "some train and some test")
    chosen = [part for part in held_out if test_part in (None, part)]
    if len(chosen) != 1:
        raise UsageError(
            f"{path} has the parts train, {', '.join(held_out)}: which is held out?",
            "one part beside train",
            "-d test_part=test, or -d test_part=val; the other is skipped",
        )
    return [None if part not in ("train", chosen[0]) else part != "train" for part in parts]


def _labels(
    path: Path,
    header: Sequence[str],
    names: Sequence[str],
    values: Sequence[Sequence[str]],
    reading: Reading,
) -> tuple[Tensor, tuple[str, ...]]:
    """Classes of a single column, or attributes of all columns.

    Raises:
        UsageError: The columns are neither, or may be both.
        StorageError: A label is missing.
    """
    if blank := [name for name, row in zip(names, values, strict=True) if not all(row)]:
        raise names_error(f"{path}: rows without a label", blank, "fill the cells, or name a class")
    is_boolean = {value.casefold() for row in values for value in row} <= TRUE | FALSE | MINUS
    is_single = len(header) == 1
    if is_single and is_boolean and reading is None:
        words = sorted({row[0] for row in values})
        raise UsageError(
            f"{path}: column {header[0]!r} holds {' and '.join(words)}: are these classes of their "
            f"own, or does an image have the attribute {header[0]!r} or not?",
            "-d labels=classes, or -d labels=attributes",
        )
    if is_single and (reading == "classes" or not is_boolean):
        if reading == "attributes":
            raise UsageError(f"{path}: column {header[0]!r} holds words", COLUMNS)
        return _classes(path, [row[0] for row in values])
    if not header or not is_boolean or reading == "classes":
        other = "" if is_boolean else " with values other than 0 and 1"
        raise UsageError(f"{path}: {len(header)} columns of labels{other}", COLUMNS)
    return _attributes(path, header, values), tuple(header)


def _attributes(path: Path, header: Sequence[str], values: Sequence[Sequence[str]]) -> Tensor:
    for i, name in enumerate(header):
        words = {row[i].casefold() for row in values}
        if words & MINUS and words & FALSE:
            raise UsageError(
                f"{path}: column {name!r} holds -1 beside 0",
                "-1 and 1, or 0 and 1: a third value, such as unknown, has no place",
            )
    return torch.tensor([[value.casefold() in TRUE for value in row] for row in values])


def _classes(path: Path, values: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
    names = sorted(set(values))
    if len(names) < 2:
        raise UsageError(f"{path}: one class only ({names[0]})", "two classes or more")
    position = {name: i for i, name in enumerate(names)}
    return torch.tensor([position[value] for value in values]), tuple(names)
