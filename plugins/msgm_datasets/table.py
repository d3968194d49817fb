"""A user's table of labels in CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from msgm_bench import UsageError
from msgm_datasets.files import damaged
from msgm_datasets.images import missing

SPLIT = ("split", "partition")
TRUE, FALSE = {"1", "true", "yes"}, {"0", "-1", "false", "no"}
PARTS = {"train": False, "test": True, "0": False, "2": True}


@dataclass(frozen=True)
class Table:
    """Files and what is said about them, in one order.

    Attributes:
        files: Paths by name.
        labels: ``int64 [N]`` classes, or ``bool [N, A]`` attributes.
        classes: Names of the classes or of the attributes.
        test: Mask ``[N]`` of the items that the user holds out; None if that is left to us.
    """

    files: Mapping[str, Path]
    labels: Tensor
    classes: tuple[str, ...]
    test: Tensor | None


def read_table(path: Path, images: Mapping[str, Path]) -> Table:
    """The table for exactly ``images``.

    Raises:
        UsageError: A column or value that is neither a class nor an attribute; one class only.
        StorageError: Files that are in the table alone, or in the folder alone.
    """
    header, rows = _rows(path)
    _same(path, [row[0] for row in rows], images)
    test, columns = None, list(range(1, len(header)))
    splits = [i for i in columns if header[i].lower() in SPLIT]
    for i in splits[:1]:
        test = _split(path, [row[i].lower() for row in rows])
        columns.remove(i)
    files = {row[0]: images[row[0]] for row in rows}
    values = [[row[i] for i in columns] for row in rows]
    boolean = {value.lower() for row in values for value in row} <= TRUE | FALSE
    if len(columns) == 1 and not boolean:
        labels, classes = _classes(path, [row[0] for row in values])
        return Table(files, labels, classes, test)
    if not columns or not boolean:
        raise UsageError(
            f"{path}: {len(columns)} columns of labels with values other than 0 and 1",
            "one column of class names, or columns of 0 (or -1) and 1",
        )
    truth = torch.tensor([[value.lower() in TRUE for value in row] for row in values])
    return Table(files, truth, tuple(header[i] for i in columns), test)


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise damaged(path, error) from error
    if len(rows) < 2:
        raise damaged(path, "a header and a row for each image are expected")
    header, *rows = rows
    if short := [row[0] for row in rows if len(row) != len(header)]:
        raise missing(f"{path}: rows without {len(header)} cells", short, "complete these rows")
    return header, rows


def _same(path: Path, named: Sequence[str], images: Mapping[str, Path]) -> None:
    """The table and the folder speak of the same files, each once."""
    if absent := [name for name in named if name not in images]:
        raise missing(
            f"{path} names images that are not in {path.parent}",
            absent,
            "take the rows out, or put the images there; names are relative to the folder",
        )
    told = set(named)
    if len(told) < len(named):
        twice = sorted({name for name in told if list(named).count(name) > 1})
        raise missing(f"{path} names images twice", twice, "leave one row for each")
    if unknown := [name for name in images if name not in told]:
        raise missing(
            f"images in {path.parent} of which {path.name} says nothing",
            unknown,
            "add rows for them, or move them elsewhere",
        )


def _split(path: Path, values: Sequence[str]) -> Tensor:
    if strange := set(values) - set(PARTS):
        raise UsageError(f"{path}: split {sorted(strange)[0]!r}", ", ".join(PARTS))
    test = torch.tensor([PARTS[value] for value in values])
    if test.all() or not test.any():
        raise UsageError(f"{path}: every image is in one split", "some train and some test")
    return test


def _classes(path: Path, values: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
    names = sorted(set(values))
    if len(names) < 2:
        raise UsageError(f"{path}: one class only ({names[0]})", "two classes or more")
    position = {name: i for i, name in enumerate(names)}
    return torch.tensor([position[value] for value in values]), tuple(names)
