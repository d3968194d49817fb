"""A user's own images: a folder for each class, or a table of attributes in CSV."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from msgm_bench import Data, Dataset, Examples, StorageError, UsageError, hookimpl
from msgm_datasets.files import PlaceConfig, damaged, named_places, places
from msgm_datasets.images import Recipe, decoded
from msgm_datasets.presets import presets_folder
from msgm_datasets.table import Table, read_table

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
GREY, COLOUR = {"1", "L", "LA"}, {"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "RGBX", "La", "RGBa"}
SHOWN = 3


class ImageFolder(Dataset):
    """Your own images: a folder for each class, or images and a table of attributes in CSV.

    Classes: ``DIR/cat/1.png, DIR/dog/7.jpg``; or ``DIR/train/cat/...`` and ``DIR/test/cat/...``.
    Table: ``-d table=labels.csv`` in DIR, its first column the files' names, then an optional
    column ``split`` (train or test), then one column of class names, or columns of 0 and 1.
    Without a split of your own, of each class every fifth image in order of names is held out.
    """

    name = "image_folder"
    citation = "yours"
    presets = presets_folder()

    class Config(PlaceConfig):
        """Where the images are and how they are made alike."""

        folder: str | None = Field(
            None, description="folder of the images, within the data folders if not absolute"
        )
        table: str | None = Field(None, description="CSV file in the folder; none: class folders")
        size: int | None = Field(
            None, ge=8, description="side to which every image is cropped and resized, px"
        )
        grey: bool | None = Field(
            None, description="true: all to grey, false: all to colour; none: as they are"
        )
        held_out: int = Field(5, ge=2, description="every so many-th image of a class is held out")
        flip: bool = Field(False, description="mirror training images with probability 1/2")

    def places(self) -> Sequence[Path]:
        """Where the folder may be: itself, or within the data folders."""
        if self.config.folder is not None:
            named = Path(self.config.folder).expanduser()
            return [place / named for place in places(self.config.data_dir)]
        return named_places(self.config.data_dir)

    def load(self) -> Data:
        """Read the table or the folders, then the images.

        Raises:
            MsgmBenchError: No folder, no images, one class only, images that are not alike, or a
                table that does not fit the images.
        """
        root = self._root()
        table = self._table(root) if self.config.table else folders(root)
        recipe = self._recipe(table.files)
        test = self._held_out(table)
        flip, split = self.config.flip, "own" if table.test is not None else None
        words = [split or f"every-{self.config.held_out}th", *(["flip"] * flip)]

        def examples(mask: Tensor) -> Examples:
            chosen = [path for path, here in zip(table.files.values(), mask, strict=True) if here]
            return Examples(decoded("image_folder", chosen, recipe), table.labels[mask])

        protocol = f"image_folder/{'+'.join(words)}@1"
        return Data(
            examples(~test), examples(test), table.classes, 256, protocol=protocol, flip=flip
        )

    def _root(self) -> Path:
        looked = self.places()
        for place in looked:
            if place.is_dir():
                return place
        raise UsageError(
            f"no folder of images: {', '.join(map(str, looked)) or 'none was named'}",
            "--data-dir DIR, MSGM_BENCH_DATA=DIR, or -d folder=DIR",
        )

    def _table(self, root: Path) -> Table:
        path = root / str(self.config.table)
        if not path.is_file():
            raise StorageError(f"no table {path}", hint="-d table=NAME names a CSV file in it")
        return read_table(path, images_in(root))

    def _recipe(self, files: Mapping[str, Path]) -> Recipe:
        """Size and channels that all images share, or that the options give them.

        Raises:
            UsageError: They differ, and no option says what to do about it.
        """
        looks = [look(path) for path in files.values()]
        greys, sizes = [grey for grey, _ in looks], [size for _, size in looks]
        grey, size = self.config.grey, self.config.size
        if grey is None and len(set(greys)) > 1:
            named = [sample(files, greys, kind) for kind in (True, False)]
            raise UsageError(
                f"grey images ({named[0]}) next to colour ({named[1]})",
                "-d grey=true makes all grey, -d grey=false all colour",
            )
        if size is None and len(set(sizes)) > 1:
            common = [kind for kind, _ in Counter(sizes).most_common(2)]
            named = [f"{w}x{h} ({sample(files, sizes, (w, h))})" for w, h in common]
            raise UsageError(
                f"images of {len(set(sizes))} sizes: {', '.join(named)}",
                "-d size=64 crops each to its centred square and makes that 64x64 px",
            )
        width, height = sizes[0]
        channels = 1 if (greys[0] if grey is None else grey) else 3
        return Recipe(channels, (height, width) if size is None else (size, size))

    def _held_out(self, table: Table) -> Tensor:
        """Mask of the test items: the user's own, or every so many-th of a class (or of all)."""
        if table.test is not None:
            return table.test
        mask = torch.zeros(len(table.labels), dtype=torch.bool)
        seen: dict[int, int] = defaultdict(int)
        for i, label in enumerate(table.labels.tolist()):
            kind = -1 if isinstance(label, list) else label
            seen[kind] += 1
            mask[i] = seen[kind] % self.config.held_out == 0
        if not mask.any():
            raise UsageError(
                f"no class has the {self.config.held_out} images of which one is held out",
                "more images, -d held_out=2, or folders train and test of your own",
            )
        return mask


def folders(root: Path) -> Table:
    """Class folders, within ``train`` and ``test`` if both are there.

    Raises:
        UsageError: Fewer than two classes, or classes that differ between train and test.
    """
    parts = [root / "train", root / "test"]
    own = all(part.is_dir() for part in parts)
    found = {part: classes_in(part) for part in (parts if own else [root])}
    names = sorted({name for classes in found.values() for name in classes})
    if len(names) < 2:
        said = f"one class only ({names[0]})" if names else "no folders with images"
        raise UsageError(
            f"{said} in {root}", "a folder of images for each of two classes or more, or -d table="
        )
    for part, classes in found.items():
        if absent := [name for name in names if name not in classes]:
            raise UsageError(f"{part} has no images of {', '.join(absent)}", ", ".join(names))
    rows = [
        (path, names.index(name), part == parts[1])
        for part, classes in found.items()
        for name, paths in classes.items()
        for path in paths
    ]
    files = {path.relative_to(root).as_posix(): path for path, _, _ in rows}
    labels = torch.tensor([label for _, label, _ in rows])
    test = torch.tensor([held for _, _, held in rows]) if own else None
    return Table(files, labels, tuple(names), test)


def classes_in(folder: Path) -> dict[str, list[Path]]:
    """Images of each sub-folder that has any, in order of names."""
    subfolders = sorted(path for path in folder.iterdir() if path.is_dir())
    found = {path.name: list(images_in(path).values()) for path in subfolders}
    return {name: paths for name, paths in found.items() if paths}


def images_in(folder: Path) -> dict[str, Path]:
    """Every image under ``folder`` by its relative name, in order; hidden ones left out."""
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: named[name]
        for name in sorted(named)
        if not any(part.startswith(".") for part in name.split("/"))
    }


def look(path: Path) -> tuple[bool, tuple[int, int]]:
    """Whether an image is grey, and its width and height, from its header alone.

    Raises:
        StorageError: It is no image, or has more than 8 bits a channel.
    """
    try:
        with Image.open(path) as image:
            mode, size = image.mode, image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise damaged(path, error) from error
    if mode not in GREY | COLOUR:
        raise damaged(path, f"pixels of kind {mode}", "images with 8 bits a channel are read")
    return mode in GREY, size


def sample(files: Iterable[str], kinds: Sequence[Any], kind: Any) -> str:
    """The first few of the names of one kind, within the folder, and how many there are."""
    named = [name for name, each in zip(files, kinds, strict=True) if each == kind]
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return ", ".join(named[:SHOWN]) + more


@hookimpl
def register_datasets() -> Sequence[type[Dataset]]:
    """The folder."""
    return [ImageFolder]
