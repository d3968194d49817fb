"""A user's own images: a folder for each class, or a table of attributes in CSV."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import Data, Dataset, Examples, StorageError, UsageError, hookimpl
from msgm_builtin.datasets.class_folders import class_folders
from msgm_builtin.datasets.decode import DECODE
from msgm_builtin.datasets.files import PlaceOptions, named_places, places
from msgm_builtin.datasets.images import Picture, Recipe, decoded, hashed, looks
from msgm_builtin.datasets.presets import presets_folder
from msgm_builtin.datasets.table import Table, read_table
from msgm_builtin.datasets.walk import NO_SUFFIX, Listing, describe, listing

SHOWN = 3
HOW = "--data-dir DIR, MSGM_BENCH_DATA=DIR, or -d folder=DIR"


class ImageFolderOptions(PlaceOptions):
    """Where the images are and how they are made alike."""

    folder: str | None = Field(
        None,
        min_length=1,
        description="folder of the images, within the data folders if not absolute",
    )
    table: str | None = Field(
        None, min_length=1, description="CSV file in the folder; none: class folders"
    )
    labels: Literal["classes", "attributes"] | None = Field(
        None, description="what the table's single column of 0 and 1 holds"
    )
    test_part: Literal["test", "val"] | None = Field(
        None, description="the held-out part where there are both test and val"
    )
    size: int | None = Field(
        None, ge=8, description="side to which every image is cropped and resized, px"
    )
    grey: bool | None = Field(
        None, description="true: all to grey, false: all to colour; none: as they are"
    )
    test_stride: int = Field(5, ge=2, description="every so many-th image of a class is held out")
    flip: bool = Field(False, description="mirror training images with probability 1/2")


class ImageFolder(Dataset[ImageFolderOptions]):
    """Your own images: a folder for each class, or images and a table of attributes in CSV.

    Classes: ``DIR/cat/1.png, DIR/dog/7.jpg``; or ``DIR/train/cat/...`` and ``DIR/test/cat/...``.
    Table: ``-d table=labels.csv`` in DIR, its first column the files' names, then an optional
    column ``split`` (train, val or test), then one column of class names, or columns of 0 and 1.
    Without a split of your own, of each class every fifth image in order of names is held out.
    """

    name = "image_folder"
    citation = "yours"
    presets = presets_folder()

    def places(self) -> Sequence[Path]:
        """Where the folder may be: itself, or within the data folders.

        Raises:
            UsageError: None was named, or a data folder is not there.
        """
        if self.options.folder is not None:
            named = Path(self.options.folder).expanduser()
            return [place / named for place in places(self.options.data_dir)]
        folders = named_places(self.options.data_dir)
        if not folders:
            raise UsageError("no folder of images: none was named", HOW)
        return folders

    def load(self) -> Data:
        """Read the table or the folders, then the images.

        Raises:
            MsgmBenchError: No folder, no images, one class only, images that are not alike, or a
                table that does not fit the images.
        """
        root = self._root()
        found = listing(root)
        table = self._table(root, found) if self.options.table else self._folders(root, found)
        pictures = hashed(self.name, table.files)
        recipe = self._recipe(pictures)
        test = self._held_out(table)
        flip = self.options.flip
        split = f"every-{self.options.test_stride}th" if table.test is None else "own"
        remarks = tuple(filter(None, (describe(found.skipped), leak(pictures, test))))

        def examples(mask: Tensor) -> Examples:
            chosen = [p for p, here in zip(pictures, mask.tolist(), strict=True) if here]
            return Examples(decoded(self.name, chosen, recipe), table.labels[mask])

        words = "+".join([split, *(["flip"] * flip)])
        return Data(
            examples(~test),
            examples(test),
            table.classes,
            256,
            protocol=f"{self.name}/{words}@2/{DECODE}",
            flip=flip,
            remarks=remarks,
        )

    def _root(self) -> Path:
        looked = self.places()
        for place in looked:
            if place.is_dir():
                return place
        raise UsageError(f"no folder of images: {', '.join(map(str, looked))}", HOW)

    def _folders(self, root: Path, found: Listing) -> Table:
        if self.options.labels is not None:
            raise UsageError("-d labels= without a table", "-d table=NAME beside it")
        return class_folders(root, found, self.options.test_part)

    def _table(self, root: Path, found: Listing) -> Table:
        path = root / Path(str(self.options.table)).expanduser()
        if not path.is_file():
            raise StorageError(f"no table {path}", hint="-d table=NAME names a CSV file in it")
        if path.resolve().is_relative_to(root.resolve()):
            found.skipped -= Counter([path.suffix.lower() or NO_SUFFIX])
        c = self.options
        return read_table(path, found.images, c.labels, c.test_part, found.skipped)

    def _recipe(self, pictures: Sequence[Picture]) -> Recipe:
        """Size and channels that all images share, or that the options give them.

        Raises:
            UsageError: They differ, and no option says what to do about it.
        """
        seen = looks(self.name, pictures)
        grey, size = self.options.grey, self.options.size
        kinds = {look.grey for look in seen}
        if grey is None and len(kinds) > 1:
            greys, colours = (
                sample(pictures, (look.grey is kind for look in seen)) for kind in (True, False)
            )
            raise UsageError(
                f"grey images ({greys}) next to colour ({colours})",
                "-d grey=true makes all grey, -d grey=false all colour",
            )
        sizes = Counter((look.width, look.height) for look in seen)
        if size is None and len(sizes) > 1:
            common = [
                f"{w}x{h} ({sample(pictures, (look[1:] == (w, h) for look in seen))})"
                for (w, h), _ in sizes.most_common(2)
            ]
            raise UsageError(
                f"images of {len(sizes)} sizes: {', '.join(common)}",
                "-d size=64 crops each to its centred square and makes that 64x64 px",
            )
        ((width, height),) = list(sizes)[:1]
        channels = 1 if (kinds == {True} if grey is None else grey) else 3
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
            mask[i] = seen[kind] % self.options.test_stride == 0
        if not mask.any():
            raise UsageError(
                f"no class has the {self.options.test_stride} images of which one is held out",
                "more images, -d test_stride=2, or folders train and test of your own",
            )
        return mask


def leak(pictures: Sequence[Picture], test: Tensor) -> str:
    """A line on images that are there several times, byte for byte; empty where none is."""
    copies = defaultdict[bytes, list[int]](list)
    for i, picture in enumerate(pictures):
        copies[picture.sha256].append(i)
    repeated = [places for places in copies.values() if len(places) > 1]
    if not repeated:
        return ""
    both = sum(0 < int(test[places].sum()) < len(places) for places in repeated)
    names = " and ".join(pictures[i].name for i in repeated[0][:2])
    return (
        f"the same image more than once: {len(repeated):,} of them, such as {names}; "
        f"{both:,} both to train on and held out"
    )


def sample(pictures: Sequence[Picture], chosen: Iterable[bool]) -> str:
    """The first of the names of those that are chosen, and how many more there are."""
    names = [picture.name for picture, here in zip(pictures, chosen, strict=True) if here]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


@hookimpl
def register_datasets() -> Sequence[type[Dataset]]:
    """The folder."""
    return [ImageFolder]
