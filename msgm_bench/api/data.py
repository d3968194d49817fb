"""Datasets, and the data that methods and metrics read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from msgm_bench.api.class_names import indices
from msgm_bench.api.plugin import OptionsT, Plugin
from msgm_bench.api.prompts import PromptBook
from msgm_bench.diffusion import EpsFn, Process
from msgm_bench.errors import OptionError, UsageError


@dataclass(frozen=True)
class Examples:
    """Items and their labels.

    Attributes:
        x: ``uint8 [N, C, H, W]`` grey levels ``0 .. levels-1``, or ``float32 [N, D]`` points.
        y: ``int64 [N]`` class indices, or ``bool [N, A]`` attributes.
        c: ``int64 [N]`` indices of captions in the data's prompts; None where there are none.
    """

    x: Tensor
    y: Tensor
    c: Tensor | None = None

    def __len__(self) -> int:
        """Number of items."""
        return len(self.x)

    def __getitem__(self, index: Tensor | slice) -> Examples:
        """The items that ``index`` (slice, mask or positions) selects."""
        c = None if self.c is None else self.c[index]
        return Examples(self.x[index], self.y[index], c)

    def to(self, device: torch.device) -> Examples:
        """The same items on ``device``."""
        c = None if self.c is None else self.c.to(device)
        return Examples(self.x.to(device), self.y.to(device), c)


class Density(Protocol):
    """A closed-form density of a synthetic dataset: the ground truth of its metrics."""

    def log_prob(self, x: Tensor, classes: Sequence[int] | None = None) -> Tensor:
        """Log density in nats ``[N]``, of all classes or of the renormalised ``classes``."""

    def posterior(self, x: Tensor) -> Tensor:
        """Probability of each class given ``x``, ``[N, K]``."""

    def typicality(self, x: Tensor) -> Tensor:
        """Share in [0, 1] of true data of the nearest class that is less likely than ``x``."""

    def eps(self, process: Process, classes: Sequence[int] | None = None) -> EpsFn:
        """The exact noise prediction of the density, or of the renormalised ``classes``."""


Box = tuple[int, int, int, int]
"""Top, left, height and width of a part of an image, in pixels."""


@dataclass(frozen=True)
class ItemDrawing:
    """How the base model draws the training items of data that have none.

    Item i of D_g, and of D_f, has the caption i K // count of the K that ask for it where K is
    larger than ``count``, else i mod K, and noise of (seed, i) alone.

    Attributes:
        count: Items of D_g, and of D_f.
        sampler: Name of the sampler.
        sampler_options: Its options.
        guidance: w of (1 + w) eps_c - w eps_null, for captions that state none.
        batch_size: Items that are drawn at once.
    """

    count: int
    sampler: str
    sampler_options: Mapping[str, Any]
    guidance: float
    batch_size: int


@dataclass(frozen=True)
class Data:
    """A loaded dataset.

    Attributes:
        train: Items that a model may be trained on.
        test: Held-out items.
        classes: Names of the classes, or of the attributes where labels are ``[N, A]``.
        levels: Number of grey levels of ``uint8`` items; None for points.
        density: The exact density, where it is known.
        protocol: Name and version of the split and of the preprocessing.
        nll_offset: Bits per dimension that the dataset's convention adds to points' NLL.
        flip: Whether training mirrors each image left to right with probability 1/2.
        regions: Part of the image in which a class or attribute shows, by its name; a class
            without a region may show anywhere.
        remarks: Notes on the files for the user, such as files that are skipped, a line each;
            they change no outcome.
        prompts: Captions of the items and prompts that test a text-to-image model; its concepts
            are ``classes``. Data with prompts may have no items: the base model draws them.
        drawing: How it draws them; None where there are items.
    """

    train: Examples
    test: Examples
    classes: tuple[str, ...]
    levels: int | None = None
    density: Density | None = None
    protocol: str = ""
    nll_offset: float = 0.0
    flip: bool = False
    regions: Mapping[str, Box] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    prompts: PromptBook | None = None
    drawing: ItemDrawing | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one item."""
        return tuple(self.train.x.shape[1:])

    def targets(self, names: Sequence[str]) -> tuple[int, ...]:
        """Indices of the classes that ``names`` stand for (``indices``).

        Raises:
            OptionError: An unknown class, or an empty split.
        """
        chosen = indices(self.classes, names)
        if self.prompts is not None and not len(self.train):
            self.prompts.groups(chosen)
            return chosen
        for name, part in (("training", self.train), ("held-out", self.test)):
            count = int(self.members(part, chosen).sum()) if chosen else 0
            if count in (0, len(part)):
                raise OptionError(
                    f"forgetting {', '.join(names) or 'nothing'} leaves an empty split: "
                    f"{count} of {len(part)} {name} items carry it",
                    "at least one class to forget and one to keep, with items of both",
                )
        return chosen

    def counts(self) -> dict[str, tuple[int, int]]:
        """Numbers of training and of held-out items of each class or attribute."""
        parts = (self.train, self.test)
        sums = [
            part.y.sum(dim=0) if part.y.ndim == 2 else part.y.bincount(minlength=len(self.classes))
            for part in parts
        ]
        return {
            name: (int(train), int(test))
            for name, train, test in zip(self.classes, *(s.tolist() for s in sums), strict=True)
        }

    def labels(self, targets: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Conditions of D_g (``retain``) and of D_f (``forget``): classes, or captions.

        Empty where items carry attributes and have no captions.
        """
        if self.prompts is not None:
            return self.prompts.captions(targets)
        if self.train.y.ndim == 2:
            return {}
        retain = (label for label in range(len(self.classes)) if label not in targets)
        return {"retain": tuple(retain), "forget": tuple(targets)}

    def members(self, examples: Examples, targets: Sequence[int]) -> Tensor:
        """Mask ``[N]`` of the items that carry one of ``targets``."""
        return members_of(examples.y, targets)

    def split(self, examples: Examples, targets: Sequence[int]) -> tuple[Examples, Examples]:
        """``(retain, forget)``: D_g, which is D without D_f, and D_f."""
        forget = self.members(examples, targets)
        return examples[~forget], examples[forget]


def members_of(y: Tensor, targets: Sequence[int]) -> Tensor:
    """Mask ``[N]`` of the labels that are, or attributes that hold, one of ``targets``.

    Args:
        y: Classes ``int [N]``, or attributes ``bool [N, A]``.
        targets: Indices of classes or attributes.
    """
    if y.ndim == 2:
        return y[:, list(targets)].any(dim=1)
    return torch.isin(y, torch.tensor(list(targets), device=y.device))


@dataclass(frozen=True)
class DatasetInfo:
    """Shape, classes and numbers of a dataset's items, known before any file is read.

    Attributes:
        shape: Shape of one item, such as ``(3, 64, 64)``.
        classes: Names of the classes or of the attributes.
        train: Number of items that a model may be trained on.
        test: Number of held-out items.
        levels: Number of grey levels; None for points.
        attributes: Whether an item carries any number of ``classes``, and not just one.
        prompts: Whether the items have captions, and ``classes`` are concepts.
    """

    shape: tuple[int, ...]
    classes: tuple[str, ...]
    train: int
    test: int
    levels: int | None = 256
    attributes: bool = False
    prompts: bool = False


Progress = Callable[[str, int, int | None], None]
"""Called during a download with the file's name, the bytes so far and their total, if known."""


@dataclass(frozen=True)
class Source:
    """A file that a dataset is read from, and where its makers publish it.

    Attributes:
        name: Name of the file as it is published.
        urls: Addresses to try, in order; empty if the user has to download it.
        md5: Valid checksums; empty if none is known for certain.
        size: Approximate number of bytes, for display and free disk space; never compared.
        holds: The files that are read, if this one is an archive of them.
    """

    name: str
    urls: tuple[str, ...] = ()
    md5: tuple[str, ...] = ()
    size: int | None = None
    holds: tuple[Source, ...] = ()

    @property
    def files(self) -> tuple[Source, ...]:
        """The files that are read: those of the archive, or this one."""
        return self.holds or (self,)


class Dataset(Plugin[OptionsT], ABC):
    """A source of data. Deterministic: the same options give the same bytes."""

    default_preset: ClassVar[str] = "full"

    def sources(self) -> Sequence[Source]:
        """Files that ``fetch`` downloads; empty if the dataset brings its own data."""
        return ()

    def places(self) -> Sequence[Path]:
        """Folders that are searched for the files, in order."""
        return ()

    def located(self) -> Mapping[str, Path]:
        """Path of each file of ``sources`` that is on this machine, by name."""
        return {}

    def fetch(self, progress: Progress) -> Path:
        """Download and verify the files of ``sources``; return their folder.

        Raises:
            UsageError: There is nothing to download.
            StorageError: No network, no free disk space, or a wrong checksum.
        """
        raise UsageError(
            f"dataset {self.name!r} has nothing to download", "a dataset that has `sources`"
        )

    def info(self) -> DatasetInfo | None:
        """Shape, classes and numbers of items without reading a file; None if unknown."""
        return None

    def verify(self) -> str:
        """Test files that have no checksum; return a short description of the test.

        Raises:
            MsgmBenchError: Files are missing or damaged; names them.
        """
        self.load()
        return "read"

    @abstractmethod
    def load(self) -> Data:
        """Read the data.

        Raises:
            MsgmBenchError: Files are missing or damaged; names them and says how to get them.
        """
