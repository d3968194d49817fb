"""A folder for each class, and folders of the training and the held-out part."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from msgm_bench import UsageError
from msgm_builtin.datasets.table import Table
from msgm_builtin.datasets.walk import BESIDE, EMPTY, OTHER_PART, Listing, subfolders

PARTS = {  # folders' names by the part that they hold: train_set, Test images, val
    part: re.compile(rf"({words})([ _-]?(set|data|images|split))?", re.IGNORECASE)
    for part, words in (
        ("train", "train|training"),
        ("test", "test|testing"),
        ("val", "val|valid|validation|validate|dev|eval"),
    )
}
HOW = "folders train and test (or val) beside nothing else, or only class folders"


def class_folders(root: Path, content: Listing, test_part: str | None) -> Table:
    """Classes and labels of all images, by their folders.

    Raises:
        UsageError: Fewer than two classes, classes that differ between the parts, or folders that
            may be classes or parts.
    """
    parts = _parts(root, content, test_part)
    if parts is None and test_part is not None:
        raise UsageError(f"-d test_part={test_part}, and {root} has no parts", HOW)
    folders = [f"{part}/" for part in parts] if parts else [""]
    classes = [_classes(root, folder, content) for folder in folders]
    names = sorted({name for part in classes for name in part})
    _check_classes(root, folders, classes, names)
    rows = [
        (name, names.index(label), i == 1)
        for i, part in enumerate(classes)
        for label, images in part.items()
        for name in images
    ]
    files = {name: content.images[name] for name, _, _ in rows}
    labels = torch.tensor([label for _, label, _ in rows])
    test = torch.tensor([is_test for _, _, is_test in rows]) if parts else None
    return Table(files, labels, tuple(names), test)


def _parts(root: Path, content: Listing, test_part: str | None) -> tuple[str, str] | None:
    """The training and the held-out folder; None where the folders are classes.

    Raises:
        UsageError: Both readings are possible, or several folders may be the held-out part.
    """
    groups = content.by_folder()
    folders = sorted(name for name in groups if name)
    parts = {name: part for name in folders if (part := _part_of(name))}
    train = [name for name, part in parts.items() if part == "train"]
    test = {name: part for name, part in parts.items() if part != "train"}
    others = [name for name in folders if name not in parts]
    if not train and not test:
        return None
    if not test and others and not any(_has_folders(groups[name]) for name in train):
        return None  # a class "train" among cars and buses
    if others or len(train) != 1 or not test:
        empty = [f"{name} (without images)" for name in subfolders(root) if name not in groups]
        names = ", ".join([*folders, *empty])
        raise UsageError(
            f"{root} holds {names}: are these classes, or parts of the data?",
            HOW,
            "rename folders, or name one with -d folder=, or the classes in a table (-d table=)",
        )
    chosen = [name for name, part in test.items() if test_part in (None, part)]
    if len(chosen) != 1:
        raise UsageError(
            f"{root} has {', '.join(test)}: which is the held-out part?",
            "one folder test, or one folder val",
            "-d test_part=test, or -d test_part=val; the other is skipped",
        )
    for name in test:
        if name != chosen[0]:
            _skip_folder(content, name)
    return train[0], chosen[0]


def _part_of(folder: str) -> str | None:
    """The part that a folder of this name usually holds; None for any other name."""
    return next((part for part, names in PARTS.items() if names.fullmatch(folder)), None)


def _has_folders(names: Sequence[str]) -> bool:
    return any(name.count("/") > 1 for name in names)


def _skip_folder(content: Listing, folder: str) -> None:
    """Count the images of ``folder`` as skipped."""
    names = content.by_folder()[folder]
    content.skipped[OTHER_PART.format(folder)] += len(names)
    for name in names:
        del content.images[name]


def _classes(root: Path, folder: str, content: Listing) -> dict[str, list[str]]:
    """Names of the images of each class folder in ``folder``, in order."""
    groups = content.by_folder(folder)
    if beside := groups.pop("", []):
        content.skipped[BESIDE] += len(beside)
    labels = subfolders(root / folder)
    if empty := [label for label in labels if label not in groups]:
        content.skipped[f"{EMPTY} ({', '.join(empty[:5])})"] += len(empty)
    return {label: groups[label] for label in labels if label in groups}


def _check_classes(
    root: Path,
    folders: Sequence[str],
    classes: Sequence[Mapping[str, Sequence[str]]],
    names: Sequence[str],
) -> None:
    if len(names) < 2:
        what = f"one class only ({names[0]})" if names else "no folders with images"
        raise UsageError(
            f"{what} in {root}", "a folder of images for each of two classes or more, or -d table="
        )
    for folder, part in zip(folders, classes, strict=True):
        if absent := [name for name in names if name not in part]:
            what = f"{root / folder} has no images of {', '.join(absent)}"
            raise UsageError(what, _comma_list(names))


def _comma_list(names: Sequence[str]) -> str:
    return ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
