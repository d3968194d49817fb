"""A third-party text track of prompts without images; copied into a distribution of its own.

Registers a dataset whose items the base draws, the kit's toy text-to-image model with a base that
``from_pretrained`` makes, a judge, and a task that shows nothing.
"""

from __future__ import annotations

import torch

from msgm_bench import (
    CountOptions,
    Data,
    Dataset,
    Examples,
    ItemDrawing,
    Judge,
    Options,
    Prediction,
    PretrainedNetwork,
    Task,
    hookimpl,
)
from msgm_bench.testing.toy_text import ToyTextBackbone, toy_prompts, toy_text_base

SHAPE = (1, 4, 4)


class PaintedOptions(Options):
    """How many items the base draws."""

    items: int = 10
    batch_size: int = 4


class Painted(Dataset[PaintedOptions]):
    """The toy prompts, without the toy images."""

    name = "painted"
    default_preset = "quick"
    presets = {
        "quick": {
            "training": {"steps": 3, "batch_size": 8, "ema_decay": 0.0},
            "judge": {"name": "blind"},
        }
    }

    def load(self):
        """No items."""
        book, c = toy_prompts(), self.options
        empty = Examples(
            torch.zeros(0, *SHAPE, dtype=torch.uint8),
            torch.zeros(0, len(book.concepts), dtype=torch.bool),
            torch.zeros(0, dtype=torch.int64),
        )
        drawing = ItemDrawing(c.items, "heun", {"nfe": 5}, 1.0, c.batch_size)
        return Data(
            empty,
            empty,
            book.concepts,
            16,
            protocol="painted@1",
            prompts=book,
            drawing=drawing,
        )


class Pretrained(ToyTextBackbone):
    """The toy model; every base is the trained one."""

    name = "toy_pretrained"

    def from_pretrained(self, source, stats, download=True):
        """The trained toy weights."""
        return PretrainedNetwork(self, toy_text_base().network.state_dict(), "0" * 64)


class Blind(Judge):
    """Sees every concept everywhere."""

    name = "blind"

    def fit(self, data, seed, device):
        """Nothing to learn."""
        self.count = len(data.classes)
        self.report = {"accuracy": 1.0, "items": 0}

    def restore(self, data, state, device):
        """Nothing to read."""
        self.count = len(data.classes)

    def predict(self, x):
        """All of them."""
        classes = torch.ones(len(x), self.count, dtype=torch.bool)
        return Prediction(classes, torch.ones(len(x), dtype=torch.bool))


class Nothing(Task[CountOptions]):
    """Zeros."""

    name = "nothing"

    def total(self, context):
        """One."""
        return 1

    def draw(self, context, start, count):
        """A zero."""
        return {"x": torch.zeros(count, *SHAPE)}


@hookimpl
def register_datasets():
    """The prompts."""
    return [Painted]


@hookimpl
def register_backbones():
    """The model."""
    return [Pretrained]


@hookimpl
def register_judges():
    """The judge."""
    return [Blind]


@hookimpl
def register_tasks():
    """The task."""
    return [Nothing]
