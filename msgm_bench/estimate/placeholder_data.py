"""Data of an estimate: the dataset where its files are here, noise of the same shape elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from msgm_bench.api import Data, Dataset, DatasetInfo, DataStats, Examples, Prompt, PromptBook
from msgm_bench.errors import StorageError
from msgm_bench.experiment.loaded_data import LoadedData, data_key, load, missing_files
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.registry import registry

COPIES = 2  # placeholder items of each class


@dataclass(frozen=True)
class KnownData:
    """A dataset, or as much of it as is known without its files.

    Attributes:
        loaded: The data, or noise of their shape.
        published: The dataset's published facts, where ``loaded`` is noise; else None.
    """

    loaded: LoadedData
    published: DatasetInfo | None = None

    @property
    def is_local(self) -> bool:
        """Whether ``loaded`` is the dataset itself."""
        return self.published is None

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of training and of held-out items."""
        if self.published is not None:
            return self.published.train, self.published.test
        return len(self.loaded.data.train), len(self.loaded.data.test)


def known_data(spec: RunSpec) -> KnownData:
    """The data where all files are here, else noise. Downloads nothing.

    Raises:
        StorageError: The files are not here, and the shape of the items is unpublished.
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
    data = placeholder_data(info)
    return KnownData(LoadedData(data, DataStats.of(data), ""), info)


def placeholder_data(info: DatasetInfo) -> Data:
    """Noise of the published shape and type: ``COPIES`` items of each class, with its caption."""
    count = COPIES * len(info.classes)
    generator = torch.Generator().manual_seed(0)
    shape = (count, *info.shape)
    if info.levels is None:
        x = torch.randn(shape, generator=generator)
    else:
        x = torch.randint(info.levels, shape, generator=generator, dtype=torch.uint8)
    label = torch.arange(count) % len(info.classes)
    one_hot = label[:, None] == torch.arange(len(info.classes))
    y = one_hot if info.attributes or info.prompts else label
    items = Examples(x, y, label if info.prompts else None)
    book = placeholder_prompts(info.classes) if info.prompts else None
    return Data(items, items, info.classes, info.levels, prompts=book)


def placeholder_prompts(concepts: tuple[str, ...]) -> PromptBook:
    """The name of each concept as its caption, and as the prompt that tests it."""
    captions = [Prompt(name, (i,), "train") for i, name in enumerate(concepts)]
    tests = [Prompt(name, (i,), "target", i) for i, name in enumerate(concepts)]
    return PromptBook(concepts, (*captions, *tests))
