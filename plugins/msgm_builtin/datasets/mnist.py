"""MNIST and Fashion-MNIST: 28x28 grey images in IDX files."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from msgm_bench import Data, Dataset, DatasetInfo, Examples, Source, hookimpl
from msgm_builtin.datasets.files import FileDataset, FilesOptions, damaged, read_file
from msgm_builtin.datasets.presets import presets_28

TRAIN_X, TRAIN_Y = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
TEST_X, TEST_Y = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
SIDE, PADDED, CLASSES = 28, 32, 10
MAX_BYTES = 2**28  # of a file, and of its uncompressed content; the published ones have 47e6


class IdxDatasetOptions(FilesOptions):
    """Place of the files, and the size of the images."""

    pad: bool = Field(False, description="black margin: 32x32 px, which halve three times")


class IdxDataset(FileDataset[IdxDatasetOptions]):
    """Four IDX files, compressed with gzip or not."""

    aliases = {
        name: (name, name.removesuffix(".gz"), name.removesuffix(".gz").replace("-idx", ".idx"))
        for name in (TRAIN_X, TRAIN_Y, TEST_X, TEST_Y)
    }
    classes: ClassVar[tuple[str, ...]]

    def info(self) -> DatasetInfo:
        """60,000 and 10,000 images, without a look at the files."""
        side = PADDED if self.options.pad else SIDE
        return DatasetInfo((1, side, side), self.classes, train=60_000, test=10_000)

    def read(self, files: Mapping[str, Path]) -> Data:
        """The published split."""
        train, test = (
            self._read_part(files[x], files[y]) for x, y in ((TRAIN_X, TRAIN_Y), (TEST_X, TEST_Y))
        )
        protocol = f"{self.name}/test{'+pad' if self.options.pad else ''}@1"
        return Data(train, test, self.classes, levels=256, protocol=protocol)

    def _read_part(self, images: Path, labels: Path) -> Examples:
        x, y = read_idx(images, 3)[:, None], read_idx(labels, 1).long()
        if len(x) != len(y):
            raise damaged(images, f"{len(x)} images, but {len(y)} labels in {labels}")
        if x.shape[2:] != (SIDE, SIDE) or int(y.max()) >= CLASSES:
            size = "x".join(map(str, x.shape[2:]))
            raise damaged(images, f"{size} pixels and labels up to {int(y.max())}, not 28x28 and 9")
        margin = (PADDED - SIDE) // 2
        return Examples(F.pad(x, [margin] * 4) if self.options.pad else x, y)


def read_idx(path: Path, ndim: int) -> Tensor:
    """An IDX file of unsigned bytes with ``ndim`` dimensions, compressed with gzip or not.

    Layout: two zero bytes, type 8, ``ndim``, the sizes as big-endian 32-bit integers, the bytes.

    Raises:
        StorageError: The file is cut short or is not in this format.
    """
    raw = read_file(path, MAX_BYTES)
    try:
        with gzip.open(io.BytesIO(raw)) if raw[:2] == b"\x1f\x8b" else io.BytesIO(raw) as file:
            header = f">HBB{ndim}I"
            zero, kind, axes, *shape = struct.unpack(header, file.read(struct.calcsize(header)))
            if (zero, kind, axes) != (0, 8, ndim):
                raise damaged(path, f"no IDX file of bytes with {ndim} dimensions")
            count = math.prod(shape)
            if not 0 < count <= MAX_BYTES:
                raise damaged(
                    path, f"its header says {shape}; at most {MAX_BYTES:,} bytes are read"
                )
            body = np.frombuffer(file.read(count + 1), np.uint8)  # a bomb is not decompressed
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise damaged(path, error) from error
    if len(body) != count:
        difference = "fewer" if len(body) < count else "more"
        raise damaged(path, f"{difference} bytes of items than its header says: {shape}")
    return torch.from_numpy(body.reshape(shape).copy())


def idx_sources(
    urls: Sequence[str], md5: Mapping[str, tuple[str, ...]], sizes: Mapping[str, int]
) -> tuple[Source, ...]:
    """The four files at each of ``urls``."""
    return tuple(
        Source(name, tuple(url + name for url in urls), md5[name], sizes[name]) for name in md5
    )


class MNIST(IdxDataset):
    """Handwritten digits, 28x28 grey: 60,000 for training, 10,000 held out."""

    name = "mnist"
    presets = presets_28(gate=0.97)
    citation = "LeCun, Cortes, Burges 1998, the MNIST database of handwritten digits"
    folders = ("mnist", "MNIST/raw", "MNIST", ".")
    advice = "by hand: the four IDX files, compressed or not, into DIR/mnist"
    other_datasets = frozenset({"fashion_mnist", "fashion-mnist", "fashionmnist"})
    classes = tuple(str(digit) for digit in range(10))
    published = idx_sources(  # addresses and checksums as in torchvision's source
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ),
        {
            TRAIN_X: ("f68b3c2dcbeaaa9fbdd348bbdeb94873",),
            TRAIN_Y: ("d53e105ee54ea40749a09fcbcd1e9432",),
            TEST_X: ("9fb629c4189551a2d022fa330f9573f3",),
            TEST_Y: ("ec29112dd5afa0611ce80d1b7f02629c",),
        },
        {TRAIN_X: 9_912_422, TRAIN_Y: 28_881, TEST_X: 1_648_877, TEST_Y: 4_542},
    )


class FashionMNIST(IdxDataset):
    """Articles of clothing, 28x28 grey: 60,000 for training, 10,000 held out."""

    name = "fashion_mnist"
    presets = presets_28(gate=0.85)  # shirts and pullovers look alike, to people too
    citation = "Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747"
    folders = ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw", "FashionMNIST", ".")
    other_datasets = frozenset({"mnist"})
    advice = "on Debian and Ubuntu: apt-get install dataset-fashion-mnist"
    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    published = idx_sources(  # torchvision's, then those of Debian's 0.0~git20200523.55506a9-1,
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),  # packed anew
        {
            TRAIN_X: ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "cf8536b0aa1a6ac5fa3f23001093305c"),
            TRAIN_Y: ("25c81989df183df01b3e8a0aad5dffbe", "10bea18fdb374794d4bb42e356e600c9"),
            TEST_X: ("bef4ecab320f06d8554ea6380940ec79", "f78720b4224f21cce2f2ccf2d7a94c9a"),
            TEST_Y: ("bb300cfdad3c16e7a12a480ee83cd310", "0d30e22e447f3c33dab9ed536400ac01"),
        },
        {TRAIN_X: 26_421_880, TRAIN_Y: 29_515, TEST_X: 4_422_102, TEST_Y: 5_148},
    )


@hookimpl
def register_datasets() -> Sequence[type[Dataset]]:
    """MNIST and Fashion-MNIST."""
    return [MNIST, FashionMNIST]
