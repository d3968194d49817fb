"""The data of an outline: what is here, or noise of the same shape in its place."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from msgm_bench.api import Data, Dataset, DatasetInfo, DataStats, Examples
from msgm_bench.errors import StorageError
from msgm_bench.experiment.loaded_data import LoadedData, data_key, load, missing_files
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.registry import registry

COPIES = 2  # items of each class in noise


@dataclass(frozen=True)
class KnownData:
    """What is known of a dataset on this machine.

    Attributes:
        loaded: The data, or noise of their shape.
        info: What the dataset says of itself, where ``loaded`` is noise.
    """

    loaded: LoadedData
    info: DatasetInfo | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of training and of held-out items."""
        if self.info is not None:
            return self.info.train, self.info.test
        return len(self.loaded.data.train), len(self.loaded.data.test)


def known_data(spec: RunSpec) -> KnownData:
    """The data where all files are here; noise where they are not. Downloads nothing.

    Raises:
        StorageError: The files are not here, and the dataset does not know its items' shape.
    """
    dataset: Dataset = registry().create("datasets", spec.dataset, spec.dataset_params)
    if not missing_files(dataset):
        return KnownData(load(*data_key(spec)))
    info = dataset.info()
    if info is None:
        raise StorageError(
            f"dataset {spec.dataset!r}: the shape of its items is unknown until its files are here",
            hint=f"msgm-bench data fetch {spec.dataset}, or --data-dir DIR",
        )
    data = stand_in(info)
    return KnownData(LoadedData(data, DataStats.of(data), ""), info)


def stand_in(info: DatasetInfo) -> Data:
    """A few items of noise, every class among them."""
    count = COPIES * len(info.classes)
    generator = torch.Generator().manual_seed(0)
    shape = (count, *info.shape)
    if info.levels is None:
        x = torch.randn(shape, generator=generator)
    else:
        x = torch.randint(info.levels, shape, generator=generator, dtype=torch.uint8)
    y = torch.arange(count) % len(info.classes)
    if info.attributes:
        y = y[:, None] == torch.arange(len(info.classes))
    items = Examples(x, y)
    return Data(items, items, info.classes, info.levels)
