"""What a dataset keeps: the same items every time, and held-out items that are held out."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from msgm_bench.api import Data, Dataset, DatasetInfo, Examples
from msgm_bench.errors import UsageError
from msgm_bench.testing.checks import Check, in_one_line, require
from msgm_bench.testing.plugins import PLUGIN_CHECKS
from msgm_bench.testing.prompts import check_book, check_captions

LEAK = 0.01
"""Largest share of held-out items that are bit by bit training items, too.

Real data have some: photographs that were published twice, and small images that two hands drew
alike. A split that lost its meaning has nearly all of them, and one that was drawn with
replacement, or from files that overlap, some per cent.
"""


DRAWN = "it has no items: the base model draws them"


@dataclass(frozen=True, eq=False)
class DatasetCase:
    """A dataset under check.

    Attributes:
        cls: The dataset.
        options: Its options.
        leak: Largest share of held-out items with an exact double among the training items.
        excerpt: Whether the files here hold fewer items than the info counts.
    """

    cls: type[Dataset]
    options: Mapping[str, Any] | None = None
    leak: float = LEAK
    excerpt: bool = False

    def obstacle(self) -> str | None:
        """Files that are nowhere on this machine, or that an option has to name."""
        dataset = self.cls.create(self.options)
        located = dataset.located()
        for source in dataset.sources():
            for file in source.files:
                if file.name not in located and source.name not in located:
                    return f"{file.name} is not here: msgm-bench data fetch {self.cls.name}"
        try:
            self.data  # noqa: B018 - loads it
        except UsageError as error:  # such as a folder that nobody named
            return in_one_line(error)
        return None

    @functools.cached_property
    def data(self) -> Data:
        """What it loads the first time."""
        return self.cls.create(self.options).load()


def _check_repeatable(case: DatasetCase) -> None:
    name, first, second = case.cls.name, case.data, case.cls.create(case.options).load()
    for a, b in ((first.train, second.train), (first.test, second.test)):
        assert torch.equal(a.x, b.x), f"{name}: loads other items the second time"
        assert torch.equal(a.y, b.y), f"{name}: loads other labels the second time"
        same = a.c is b.c if a.c is None or b.c is None else torch.equal(a.c, b.c)
        assert same, f"{name}: loads other captions the second time"
    assert first.classes == second.classes, f"{name}: names its classes anew the second time"
    digests = [None if data.prompts is None else data.prompts.digest for data in (first, second)]
    assert digests[0] == digests[1], f"{name}: loads other prompts the second time"


def _check_names(case: DatasetCase) -> None:
    name, classes = case.cls.name, case.data.classes
    assert case.data.protocol, f"{name}: the data protocol has no name"
    assert len(set(classes)) == len(classes) > 1, f"{name}: classes need two names"


def _check_info(case: DatasetCase) -> str | None:
    info = case.cls.create(case.options).info()
    if info is None:
        return "it describes no items before it loads them"
    _check_counts(case.cls.name, info, case.data, case.excerpt)
    return None


def _check_parts(case: DatasetCase) -> str | None:
    if case.data.drawing is not None:
        return DRAWN
    for part, items in (("train", case.data.train), ("test", case.data.test)):
        _check_items(f"{case.cls.name}: {part}", case.data, items)
    return None


def _check_boxes(case: DatasetCase) -> str | None:
    _check_regions(case.cls.name, case.data)
    return None if case.data.regions else "it names no regions"


def _check_leakage(case: DatasetCase) -> str | None:
    if case.data.drawing is not None:
        return DRAWN
    _check_leak(case.cls.name, case.data, case.leak)
    return None


def _check_prompts(case: DatasetCase) -> str | None:
    if case.data.prompts is None:
        return "it has no prompts"
    name, book = case.cls.name, case.data.prompts
    assert book.concepts == case.data.classes, f"{name}: the prompts' concepts are not its classes"
    check_book(name, book)
    for part, items in (("train", case.data.train), ("test", case.data.test)):
        check_captions(f"{name}: {part}", book, items)
    return None


DATASET_CHECKS: tuple[Check[DatasetCase], ...] = (
    *PLUGIN_CHECKS,
    Check("repeatability", "loads the same items, labels and classes twice", _check_repeatable),
    Check("classes", "names of two classes or more, and of the protocol", _check_names),
    Check("description", "shape, levels and counts are as described before loading", _check_info),
    Check("items", "finite, in range, and some of every class in both splits", _check_parts),
    Check("regions", "lie in the image and belong to classes", _check_boxes),
    Check(
        "prompts",
        "captions ask for what items show; every concept is tested",
        _check_prompts,
    ),
    Check("leakage", "held-out items are not among the training items", _check_leakage),
)


def check_dataset(
    cls: type[Dataset],
    options: Mapping[str, Any] | None = None,
    *,
    leak: float = LEAK,
    excerpt: bool = False,
) -> None:
    """Loads twice the same, and what its info says; both splits hold every class.

    Items are finite, their labels in range; grey levels lie in 0 .. levels - 1; at most a share
    ``leak`` of the held-out items is among the training items; regions lie in the image; captions
    ask for what items show, and prompts test every concept.

    Args:
        cls: The dataset.
        options: Its options.
        leak: Largest share of held-out items with an exact double among the training items.
        excerpt: Whether the files here hold fewer items than the info counts.
    """
    require(DATASET_CHECKS, DatasetCase(cls, options, leak, excerpt))


def _check_counts(name: str, info: DatasetInfo, data: Data, excerpt: bool) -> None:
    expected = (info.shape, info.levels, info.classes, info.attributes)
    here = (data.shape, data.levels, data.classes, data.train.y.ndim == 2)
    assert expected == here, f"{name}: its info says {expected}, its items are {here}"
    counts, loaded = (info.train, info.test), (len(data.train), len(data.test))
    assert excerpt or counts == loaded, f"{name}: its info counts {counts}, it loads {loaded}"


def _check_items(label: str, data: Data, part: Examples) -> None:
    x, y, K = part.x, part.y, len(data.classes)
    assert len(x) == len(y), f"{label} has items without labels"
    assert len(x), f"{label} is empty"
    assert x.shape[1:] == data.shape, f"{label} has items of another shape"
    if data.levels is None:
        assert x.is_floating_point(), f"{label}: points are {x.dtype}, not floating point"
        assert bool(torch.isfinite(x).all()), f"{label}: points are not finite"
    else:
        assert x.dtype == torch.uint8, f"{label}: images are {x.dtype}, not uint8"
        assert int(x.max()) < data.levels, f"{label}: grey levels beyond levels"
        assert int(x.max()) > int(x.min()), f"{label}: all images are of one grey"
    if y.ndim == 2:
        assert y.dtype == torch.bool, f"{label}: attributes are {y.dtype}, not bool"
        assert y.shape[1] == K, f"{label}: {y.shape[1]} attributes under {K} names"
    else:
        assert y.dtype == torch.int64, f"{label}: labels are {y.dtype}, not int64"
        low, high = int(y.min()), int(y.max())
        assert low >= 0, f"{label}: labels from {low}"
        assert high < K, f"{label}: labels up to {high} of {K} classes"
    for i, called in enumerate(data.classes):
        assert bool(data.members(part, (i,)).any()), f"{label} has no item of {called!r}"


def _check_regions(name: str, data: Data) -> None:
    for called, (top, left, height, width) in data.regions.items():
        assert called in data.classes, f"{name}: a region of {called!r}, which is no class"
        H, W = data.shape[-2:]
        inside = top >= 0 and left >= 0 and top + height <= H and left + width <= W
        real = inside and height > 0 and width > 0
        assert real, f"{name}: the region of {called!r} is not in {H}x{W} pixels"


def _check_leak(name: str, data: Data, most: float) -> None:
    doubles = leaked(data)
    share = doubles / len(data.test)
    assert share <= most, (
        f"{name}: {doubles} of {len(data.test)} held-out items ({share:.1%}) are training items, "
        f"too; at most {most:.1%} may be: values on held-out items would be of seen ones"
    )


def leaked(data: Data) -> int:
    """Held-out items that are training items bit by bit."""
    seen = set(_rows(data.train.x))
    return sum(row in seen for row in _rows(data.test.x))


def _rows(x: Tensor) -> list[bytes]:
    flat = x.reshape(len(x), -1).contiguous().numpy()
    return [row.tobytes() for row in flat]
