"""Tiny models and batches for the tests of the training loop."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from matching import Match

from msgm_bench import Data, DataStats, Examples, Training
from msgm_bench.registry import registry
from msgm_bench.training import NoisedBatches, Runtime, Trainer


def images(count=24, size=8):
    """Grey-level images of two classes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(17, (count, 1, size, size), generator=generator).to(torch.uint8)
    return Examples(x, torch.arange(count) % 2)


@pytest.fixture
def world():
    """``world(**budget)`` is a fresh U-Net with dropout, with its trainer and folderless parts."""
    data = Data(images(), images(), ("even", "odd"), levels=17)
    retain, forget = data.split(data.train, (1,))
    labels = data.labels((1,))
    options = {"network": "unet", "channels": (8, 16), "attention": (4,), "dropout": 0.2}
    backbone = registry().create("backbones", "vpsde", options)

    def build(method=None, seed=0, base=None, pass_items=None, **budget):
        torch.manual_seed(1)
        model = backbone.build(DataStats.of(data))
        chosen = Training(
            **{"steps": 6, "batch_size": 4, "warmup_steps": 2, "ema_decay": 0.9} | budget
        )
        noised_batches = NoisedBatches(
            {"retain": retain, "forget": forget}, model, seed, chosen.batch_size
        )
        trained = Match() if method is None else method
        runtime = Runtime.select("cpu")
        trainer = Trainer(
            model, trained, noised_batches, chosen, runtime, seed, base, labels, pass_items
        )
        return SimpleNamespace(
            model=model, trainer=trainer, noised_batches=noised_batches, budget=chosen
        )

    return build
