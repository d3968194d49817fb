"""STL-10: 96x96 colour images in flat binary files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from msgm_bench import Data, Dataset, DatasetInfo, Examples, Source, hookimpl
from msgm_builtin.datasets.files import FileDataset, FilesOptions, damaged, read_file
from msgm_builtin.datasets.images import resize_all
from msgm_builtin.datasets.presets import presets_stl10

INNER = "stl10_binary"
SIDE, SIZE = 96, 64
ITEM, MAX_ITEMS = 3 * SIDE**2, 20_000  # bytes of an image, and how many may be in a file
MD5 = {  # as in torchvision's source
    "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
    "train_y.bin": "5a34089d4802c674881badbb80307741",
    "test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
    "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
}
CLASSES = (
    *("airplane", "bird", "car", "cat", "deer"),
    *("dog", "horse", "monkey", "ship", "truck"),
)


class STL10Options(FilesOptions):
    """Place of the files, split and preprocessing."""

    split: Literal["test", "paper"] = Field(
        "test", description="test: the published split; paper: train on all, score on train"
    )
    size: int = Field(SIZE, ge=8, le=SIDE, description="side to which images are reduced, px")
    flip: bool = Field(True, description="mirror training images with probability 1/2")


class STL10(FileDataset[STL10Options]):
    """Photographs of ten kinds of things at 64x64 colour: 5,000 for training, 8,000 held out.

    ``split=paper`` is the odd choice of the MSGM authors' code: it trains on both parts and
    evaluates on the training part, so that its likelihoods are those of training images.
    """

    name = "stl10"
    citation = "Coates, Lee, Ng 2011, An analysis of single-layer networks, AISTATS"
    presets = presets_stl10()
    folders = ("stl10", "STL10", ".")
    aliases = {name: (name, f"{INNER}/{name}") for name in MD5}
    advice = f"by hand: unpack stl10_binary.tar.gz, so that DIR/{INNER}/train_X.bin is there"
    published = (
        Source(
            "stl10_binary.tar.gz",
            ("http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",),
            ("91f7769df0f17e558f3565bffb0c7dfb",),
            2_640_397_119,
            tuple(Source(name, md5=(md5,)) for name, md5 in MD5.items()),
        ),
    )

    def info(self) -> DatasetInfo:
        """The labelled images, at the size of the options."""
        size = self.options.size
        train, test = (13_000, 5_000) if self.options.split == "paper" else (5_000, 8_000)
        return DatasetInfo((3, size, size), CLASSES, train, test)

    def read(self, files: Mapping[str, Path]) -> Data:
        """The split of the options."""
        c = self.options
        train, test = (
            read_part(files[f"{part}_X.bin"], files[f"{part}_y.bin"], c.size)
            for part in ("train", "test")
        )
        if c.split == "paper":
            both = Examples(torch.cat([train.x, test.x]), torch.cat([train.y, test.y]))
            train, test = both, train
        words = [c.split, *([f"{c.size}px"] if c.size != SIZE else [])]
        words += [] if c.flip else ["noflip"]
        protocol = f"stl10/{'+'.join(words)}@1"
        return Data(train, test, CLASSES, levels=256, protocol=protocol, flip=c.flip)


def read_part(images: Path, labels: Path, size: int) -> Examples:
    """Images column by column, plane by plane, and labels 1 to 10.

    Raises:
        StorageError: A file is cut short or is not in this format.
    """
    y = np.frombuffer(read_file(labels, MAX_ITEMS), np.uint8)
    raw = np.frombuffer(read_file(images, MAX_ITEMS * ITEM), np.uint8)
    if not len(y) or len(raw) != len(y) * ITEM:
        raise damaged(images, f"{len(raw):,} bytes for the {len(y):,} labels in {labels}")
    if not 1 <= int(y.min()) <= int(y.max()) <= len(CLASSES):
        raise damaged(labels, "labels other than 1 to 10")
    x = raw.reshape(-1, 3, SIDE, SIDE).transpose(0, 1, 3, 2)
    return Examples(resize_all(x, size), torch.from_numpy(y.astype(np.int64)) - 1)


@hookimpl
def register_datasets() -> Sequence[type[Dataset]]:
    """STL-10."""
    return [STL10]
