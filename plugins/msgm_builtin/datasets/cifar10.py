"""CIFAR-10: 32x32 colour images in Python pickles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from msgm_bench import Data, Dataset, DatasetInfo, Examples, Source, hookimpl
from msgm_builtin.datasets.files import FileDataset, FilesOptions, damaged
from msgm_builtin.datasets.presets import presets_cifar10
from msgm_builtin.datasets.safe_pickle import read_pickle

INNER = "cifar-10-batches-py"
TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST = "test_batch"
MD5 = {  # as in torchvision's source
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
SHAPE = (3, 32, 32)
MAX_BYTES = 2**28  # of a file; the published ones have 31 million


class CIFAR10Options(FilesOptions):
    """Place of the files, and mirroring."""

    flip: bool = Field(True, description="mirror training images with probability 1/2")


class CIFAR10(FileDataset[CIFAR10Options]):
    """Photographs of ten kinds of things, 32x32 colour: 50,000 for training, 10,000 held out."""

    name = "cifar10"
    citation = "Krizhevsky 2009, Learning multiple layers of features from tiny images"
    presets = presets_cifar10()
    folders = ("cifar10", "cifar-10", "CIFAR10", ".")
    aliases = {name: (name, f"{INNER}/{name}") for name in MD5}
    advice = f"by hand: unpack cifar-10-python.tar.gz, so that DIR/{INNER}/{TEST} is there"
    published = (
        Source(
            "cifar-10-python.tar.gz",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
            ("c58f30108f718f92721af3b95e74349a",),
            170_498_071,
            tuple(Source(name, md5=(md5,)) for name, md5 in MD5.items()),
        ),
    )

    def info(self) -> DatasetInfo:
        """Five batches and one of 10,000 images each."""
        return DatasetInfo(SHAPE, CLASSES, train=50_000, test=10_000)

    def read(self, files: Mapping[str, Path]) -> Data:
        """The published split."""
        parts = [read_batch(files[name]) for name in TRAIN]
        train = Examples(torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts]))
        protocol = f"cifar10/test{'' if self.options.flip else '+noflip'}@1"
        return Data(
            train, read_batch(files[TEST]), CLASSES, 256, protocol=protocol, flip=self.options.flip
        )


def read_batch(path: Path) -> Examples:
    """One file: ``data [N, 3072]``, the planes red, green and blue, and ``labels [N]``.

    Keys are text or bytes, labels a list or an array.

    Raises:
        StorageError: The file is cut short or is not in this format.
    """
    value = read_pickle(path, MAX_BYTES)
    if not isinstance(value, dict):
        raise damaged(path, f"it holds {type(value).__name__}, not a batch with data and labels")
    batch = {k.decode("latin1") if isinstance(k, bytes) else k: v for k, v in value.items()}
    x, labels = batch.get("data"), batch.get("labels")
    if isinstance(labels, np.ndarray) and labels.ndim == 1:
        labels = labels.tolist()
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise damaged(path, "no labels: a list of numbers is expected")
    if not isinstance(x, np.ndarray) or x.dtype != np.uint8:
        raise damaged(path, "no data: an array of bytes is expected")
    if x.shape != (len(labels), int(np.prod(SHAPE))):
        raise damaged(path, f"data of shape {x.shape} for {len(labels)} labels")
    if not labels or not 0 <= min(labels) <= max(labels) < len(CLASSES):
        raise damaged(path, "no labels 0 to 9")
    return Examples(torch.from_numpy(x.reshape(-1, *SHAPE).copy()), torch.tensor(labels))


@hookimpl
def register_datasets() -> Sequence[type[Dataset]]:
    """CIFAR-10."""
    return [CIFAR10]
