"""A user's own images: a folder for each class, or a table of attributes in CSV."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import compress
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import Data, Dataset, Examples, StorageError, UsageError, hookimpl
from msgm_builtin.datasets.class_folders import class_folders
from msgm_builtin.datasets.decode import DECODE
from msgm_builtin.datasets.files import FolderOptions, existing_folders, search_folders
from msgm_builtin.datasets.images import ImageFile, Recipe, decode_all, hash_all, read_headers
from msgm_builtin.datasets.presets import presets_folder
from msgm_builtin.datasets.table import Table, read_table
from msgm_builtin.datasets.walk import NO_SUFFIX, Listing, describe, walk

NAMED = 3  # images in a message
HOW = "--data-dir DIR, MSGM_BENCH_DATA=DIR, or -d folder=DIR"


class ImageFolderOptions(FolderOptions):
    """Folder, labels, split and common shape of the images."""

    folder: str | None = Field(
        None,
        min_length=1,
        description="folder of the images, within the data folders if not absolute",
    )
    table: str | None = Field(
        None, min_length=1, description="CSV file in the folder; none: class folders"
    )
    labels: Literal["classes", "attributes"] | None = Field(
        None, description="meaning of the table's single column of 0 and 1"
    )
    test_part: Literal["test", "val"] | None = Field(
        None, description="the held-out part where there are test and val"
    )
    size: int | None = Field(
        None, ge=8, description="side to which every image is cropped and resized, px"
    )
    grey: bool | None = Field(
        None, description="true: all to grey, false: all to colour; none: as they are"
    )
    test_stride: int = Field(5, ge=2, description="every so-many-th image of a class is held out")
    flip: bool = Field(False, description="mirror training images with probability 1/2")


class ImageFolder(Dataset[ImageFolderOptions]):
    """Your own images: a folder for each class, or images and a table of attributes in CSV.

    Classes: ``DIR/cat/1.png, DIR/dog/7.jpg``; or ``DIR/train/cat/...`` and ``DIR/test/cat/...``.
    Table: ``-d table=labels.csv`` in DIR, its first column the files' names, then an optional
    column ``split`` (train, val or test), then one column of class names, or columns of 0 and 1.
    Without a split of your own, every fifth image of each class, by name, is held out.
    """

    name = "image_folder"
    citation = "yours"
    presets = presets_folder()

    def places(self) -> Sequence[Path]:
        """Paths of the folder, in the data folders where it is relative.

        Raises:
            UsageError: No folder is named, or a data folder does not exist.
        """
        if self.options.folder is not None:
            named = Path(self.options.folder).expanduser()
            return [place / named for place in search_folders(self.options.data_dir)]
        folders = existing_folders(self.options.data_dir)
        if not folders:
            raise UsageError("no folder of images: none was named", HOW)
        return folders

    def load(self) -> Data:
        """Read the table or the folders, then the images.

        Raises:
            MsgmBenchError: No folder, no images, one class only, images of several sizes or
                colours, or a table that does not fit the images.
        """
        root = self._root()
        content = walk(root)
        read = self._read_table if self.options.table else self._read_folders
        table = read(root, content)
        images = hash_all(self.name, table.files)
        recipe = self._recipe(images)
        test = self._held_out(table)
        flip = self.options.flip
        split = f"every-{self.options.test_stride}th" if table.test is None else "own"
        remarks = tuple(filter(None, (describe(content.skipped), describe_copies(images, test))))

        def examples(mask: Tensor) -> Examples:
            chosen = list(compress(images, mask.tolist()))
            return Examples(decode_all(self.name, chosen, recipe), table.labels[mask])

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
        places = self.places()
        for place in places:
            if place.is_dir():
                return place
        raise UsageError(f"no folder of images: {', '.join(map(str, places))}", HOW)

    def _read_folders(self, root: Path, content: Listing) -> Table:
        if self.options.labels is not None:
            raise UsageError("-d labels= without a table", "-d table=NAME beside it")
        return class_folders(root, content, self.options.test_part)

    def _read_table(self, root: Path, content: Listing) -> Table:
        path = root / Path(str(self.options.table)).expanduser()
        if not path.is_file():
            raise StorageError(
                f"no table {path}", hint="-d table=NAME names a CSV file in the folder"
            )
        if path.resolve().is_relative_to(root.resolve()):
            content.skipped -= Counter([path.suffix.lower() or NO_SUFFIX])
        c = self.options
        return read_table(path, content.images, c.labels, c.test_part, content.skipped)

    def _recipe(self, images: Sequence[ImageFile]) -> Recipe:
        """Size and channels of all images, or those of the options.

        Raises:
            UsageError: Images differ, and no option decides.
        """
        headers = read_headers(self.name, images)
        grey, size = self.options.grey, self.options.size
        kinds = {header.grey for header in headers}
        if grey is None and len(kinds) > 1:
            greys = sample(images, (header.grey for header in headers))
            colours = sample(images, (not header.grey for header in headers))
            raise UsageError(
                f"grey images ({greys}) next to colour ({colours})",
                "-d grey=true makes all grey, -d grey=false all colour",
            )
        sizes = Counter((header.width, header.height) for header in headers)
        if size is None and len(sizes) > 1:
            frequent = [
                f"{w}x{h} ({sample(images, (header[1:] == (w, h) for header in headers))})"
                for (w, h), _ in sizes.most_common(2)
            ]
            raise UsageError(
                f"images of {len(sizes)} sizes: {', '.join(frequent)}",
                "-d size=64 crops each to its centred square and makes that 64x64 px",
            )
        ((width, height),) = list(sizes)[:1]
        channels = 1 if (kinds == {True} if grey is None else grey) else 3
        return Recipe(channels, (height, width) if size is None else (size, size))

    def _held_out(self, table: Table) -> Tensor:
        """Mask of the test items: the user's own split, or every so-many-th item of a class.

        Items with attributes count as one class.

        Raises:
            UsageError: No item is held out.
        """
        if table.test is not None:
            return table.test
        mask = torch.zeros(len(table.labels), dtype=torch.bool)
        counts: dict[int, int] = defaultdict(int)
        for i, label in enumerate(table.labels.tolist()):
            kind = -1 if isinstance(label, list) else label
            counts[kind] += 1
            mask[i] = counts[kind] % self.options.test_stride == 0
        if not mask.any():
            raise UsageError(
                f"no class has the {self.options.test_stride} images of which one is held out",
                "more images, -d test_stride=2, or folders train and test of your own",
            )
        return mask


def describe_copies(images: Sequence[ImageFile], test: Tensor) -> str:
    """A line on images that are there several times, byte for byte; empty where none is."""
    copies = defaultdict[bytes, list[int]](list)
    for i, image in enumerate(images):
        copies[image.sha256].append(i)
    repeated = [indices for indices in copies.values() if len(indices) > 1]
    if not repeated:
        return ""
    in_both = sum(0 < int(test[indices].sum()) < len(indices) for indices in repeated)
    names = " and ".join(images[i].name for i in repeated[0][:2])
    return (
        f"the same image more than once: {len(repeated):,} of them, such as {names}; "
        f"{in_both:,} both to train on and held out"
    )


def sample(images: Sequence[ImageFile], mask: Iterable[bool]) -> str:
    """Names of the first images of the mask, and the number of the others."""
    names = [image.name for image in compress(images, mask)]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


@hookimpl
def register_datasets() -> Sequence[type[Dataset]]:
    """The folder."""
    return [ImageFolder]
