"""The stages that make training items in model space: draw them from the base, or encode them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msgm_bench.api import (
    Conditioned,
    Data,
    Examples,
    ItemDrawing,
    Model,
    PromptBook,
    Sampler,
    Split,
)
from msgm_bench.api.progress import ProgressCallback
from msgm_bench.cache.stage import Stage
from msgm_bench.diffusion import Noise, derive_seed
from msgm_bench.experiment.cache_key import common_inputs, plugin_identity
from msgm_bench.experiment.loaded_data import LoadedData
from msgm_bench.experiment.model_stage import ModelStage
from msgm_bench.registry import registry
from msgm_bench.storage.chunks import compute_in_chunks
from msgm_bench.storage.tensors import map_tensors, save_tensors
from msgm_bench.training import Runtime

ITEMS = "items.safetensors"
ENCODED_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class ItemStage(Stage):
    """A stage that makes items of a split in model space, and their labels.

    Attributes:
        loaded: The data.
        runtime: Device and precision.
        base: The stage of the base model, which draws or encodes.
    """

    loaded: LoadedData
    runtime: Runtime
    base: ModelStage

    @property
    @abstractmethod
    def split(self) -> Split:
        """The split."""

    @property
    @abstractmethod
    def labels(self) -> Examples:
        """Labels and captions of the items, whose ``x`` is empty ``[N, 0]``."""

    @property
    def needs(self) -> Mapping[str, Stage]:
        """The base model."""
        return self.base.files

    @property
    def shared_on(self) -> str | None:
        """The device's type."""
        return self.runtime.device.type

    def load(self, folder: Path) -> Examples:
        """The items, on the CPU, mapped from the file."""
        labels = self.labels
        return Examples(map_tensors(folder / ITEMS)["x"], labels.y, labels.c)

    def write_placeholder(self, folder: Path, model: Model) -> None:
        """Write zeros in the place of the items."""
        save_tensors(folder / ITEMS, {"x": torch.zeros(len(self.labels), *model.shape)})


@dataclass(frozen=True, eq=False)
class DrawItems(ItemStage):
    """Draw the items of D_g or of D_f from the base model, by their captions.

    Attributes:
        drawing: How.
        book: The prompts of the data.
        targets: Concept indices of D_f.
        part: ``retain`` or ``forget``.
        seed: Seed of the noise; item i's depends on (seed, part, i) alone.
    """

    drawing: ItemDrawing
    book: PromptBook
    targets: tuple[int, ...]
    part: Split
    seed: int

    @property
    def name(self) -> str:
        """``draw SPLIT items``."""
        return f"draw {self.part} items"

    @property
    def split(self) -> Split:
        """``part``."""
        return self.part

    @cached_property
    def sampler(self) -> Sampler:
        """The sampler."""
        drawing = self.drawing
        sampler: Sampler = registry().create("samplers", drawing.sampler, drawing.sampler_options)
        return sampler

    @cached_property
    def captions(self) -> Tensor:
        """Indices of the items' captions, ``int64 [count]``: all of them equally often."""
        rows = torch.tensor(self.book.captions(self.targets)[self.part])
        i, K, N = torch.arange(self.drawing.count), len(rows), self.drawing.count
        return rows[i * K // N if K > N else i % K]

    @cached_property
    def labels(self) -> Examples:
        """Concepts ``bool [N, A]`` and captions ``int64 [N]``."""
        y = torch.zeros(len(self.captions), len(self.book.concepts), dtype=torch.bool)
        for i, caption in enumerate(self.captions.tolist()):
            y[i, list(self.book[caption].concepts)] = True
        return Examples(torch.zeros(len(y), 0), y, self.captions)

    @property
    def guidance(self) -> Tensor:
        """w of each item, ``[N]``."""
        stated = [self.book[i].guidance for i in self.captions.tolist()]
        return torch.tensor([self.drawing.guidance if w is None else w for w in stated])

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """How, captions, seed, code of the sampler."""
        return common_inputs(self.loaded, self.runtime, "api", "diffusion") | {
            "drawing": asdict(self.drawing),
            "sampler": plugin_identity(self.sampler),
            "targets": list(self.targets),
            "seed": self.seed,
        }

    @property
    def units(self) -> int:
        """Items."""
        return self.drawing.count

    def run(self, work: Path, needs: Mapping[str, Path], report: ProgressCallback) -> None:
        """Draw chunk by chunk."""
        model, total = self.base.load(needs, self.runtime.device), self.drawing.count

        def on_chunk(done: int) -> None:
            report(done, total, {})

        with self.runtime.active(), torch.no_grad():
            compute_in_chunks(
                work,
                ITEMS,
                total,
                self.drawing.batch_size,
                lambda start, count: {"x": self._draw(model, start, count)},
                on_chunk,
            )

    def _draw(self, model: Model, start: int, count: int) -> Tensor:
        """Items ``start .. start+count-1``, within the bounds of the data."""
        device, part = self.runtime.device, slice(start, start + count)
        conditioned = Conditioned(
            model, self.captions[part].to(device), self.guidance[part].to(device)
        )
        noise = Noise(derive_seed(self.seed, "items", self.part), start, count, device)
        x = self.sampler.sample(conditioned, noise).x.float()
        return x if model.codec.bounds is None else x.clamp(*model.codec.bounds)


@dataclass(frozen=True, eq=False)
class EncodeItems(ItemStage):
    """Encode the training items once, where the base's codec is costly, as that of latents.

    Where training mirrors images, each of them is there as it is and mirrored.
    """

    @property
    def name(self) -> str:
        """``encode items``."""
        return "encode items"

    @property
    def split(self) -> Split:
        """All of D."""
        return "all"

    @cached_property
    def labels(self) -> Examples:
        """Labels and captions of the data, twice where mirrored images follow."""
        data, copies = self.loaded.data, 2 if self.loaded.data.flip else 1
        train = data.train
        x = torch.zeros(copies * len(train), 0)
        y = train.y.repeat(copies, *[1] * (train.y.ndim - 1))
        return Examples(x, y, None if train.c is None else train.c.repeat(copies))

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """The data."""
        return common_inputs(self.loaded, self.runtime, "api")

    @property
    def units(self) -> int:
        """Items."""
        return len(self.labels)

    def run(self, work: Path, needs: Mapping[str, Path], report: ProgressCallback) -> None:
        """Encode chunk by chunk."""
        codec, total = self.base.load(needs, self.runtime.device).codec, len(self.labels)

        def on_chunk(done: int) -> None:
            report(done, total, {})

        def encode(start: int, count: int) -> dict[str, Tensor]:
            images = self._images(start, count).to(self.runtime.device)
            return {"x": codec.encode(images).float()}

        with self.runtime.active(), torch.no_grad():
            compute_in_chunks(work, ITEMS, total, ENCODED_AT_ONCE, encode, on_chunk)

    def _images(self, start: int, count: int) -> Tensor:
        """Images ``start .. start+count-1``; those from N on are the mirrored ones."""
        x = self.loaded.data.train.x
        plain = x[start : start + count]
        if start + count <= len(x):
            return plain
        first = max(0, start - len(x))
        return torch.cat([plain, x[first : start + count - len(x)].flip(-1)])


def training_splits(
    data: Data, targets: tuple[int, ...], items: Mapping[Split, Examples]
) -> dict[Split, Examples]:
    """The splits of the data's items, or of ``items`` that stages made.

    Args:
        data: The data.
        targets: Indices of D_f.
        items: All of D (``all``), or some of the splits ``retain`` and ``forget``; empty where the
            data's own items are used.
    """
    if items and "all" not in items:
        return dict(items) | ({"all": _concatenated(*items.values())} if len(items) == 2 else {})
    every = items.get("all", data.train)
    retain, forget = data.split(every, targets)
    return {"all": every, "retain": retain, "forget": forget}


def _concatenated(first: Examples, second: Examples) -> Examples:
    c = None if first.c is None or second.c is None else torch.cat([first.c, second.c])
    return Examples(torch.cat([first.x, second.x]), torch.cat([first.y, second.y]), c)
