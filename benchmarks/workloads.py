"""Networks, data and the two training loops that the benchmarks compare."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pairs import Bench, Stopped
from torch import Tensor, nn

from msgm_bench import Data, DataStats, Examples, Model, Training
from msgm_bench.registry import registry
from msgm_bench.training import NoisedBatches, Trainer

CLASSES = ("a", "b")
SKIPPED = 8
LONG = 10_000  # steps of the run of which a part is timed: a row of the log every fifty


class EnoughError(Exception):
    """The steps that are timed are over."""


class Window:
    """The time of some steps: the clock, for which a GPU has to be idle, is read twice.

    Args:
        steps: Number of steps.
        bench: Its clock. Before the window go one step, or on a GPU as many as it takes until its
            libraries have chosen their kernels and graphs are captured.
    """

    def __init__(self, steps: int, bench: Bench) -> None:
        self.steps, self.clock, self.count, self.started = steps, bench.clock, 0, 0.0
        self.skipped = SKIPPED if bench.runtime.device.type == "cuda" else 1

    def tick(self) -> Stopped | None:
        """Count a step; the time, after the last."""
        self.count += 1
        if self.count == self.skipped:
            self.started = self.clock()
        if self.count < self.skipped + self.steps:
            return None
        return Stopped(self.clock() - self.started)


@dataclass(frozen=True)
class Workload:
    """A network on images of noise.

    Attributes:
        backbone: Name of the backbone.
        options: Its options.
        shape: C, H, W.
        batch: Items of a step.
        steps: Steps that are timed at once.
    """

    backbone: str
    options: Mapping[str, object]
    shape: tuple[int, int, int]
    batch: int
    steps: int

    def data(self) -> Data:
        """Random images of 256 grey levels."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(256, (4 * self.batch, *self.shape), generator=generator)
        items = Examples(x.to(torch.uint8), torch.arange(len(x)) % len(CLASSES))
        return Data(items, items, CLASSES, 256)

    def model(self, bench: Bench) -> Model:
        """The model with random weights, none of them zero, on the device."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            backbone = registry().create("backbones", self.backbone, dict(self.options))
            model: Model = backbone.build(DataStats.of(self.data()))
            for weights in model.network.parameters():
                if not weights.any():
                    nn.init.normal_(weights, std=0.02)
        return bench.runtime.place(model)

    def budget(self, steps: int) -> Training:
        """The optimiser of both loops."""
        return Training(steps=steps, batch_size=self.batch)


def workloads(smoke: bool) -> dict[str, Workload]:
    """By name; ``mlp`` and ``small`` suit a CPU, ``ddpm`` is Ho et al.'s network for a GPU."""
    mlp = {"network": "mlp", "width": 256, "depth": 3}
    small = {"network": "unet", "channels": (32, 64), "dropout": 0.0}
    ddpm = {
        "network": "unet",
        "channels": (128, 256, 256, 256),
        "attention": (16,),
        "dropout": 0.0,
    }
    if smoke:
        tiny = {"network": "unet", "channels": (32,), "layers": 1, "dropout": 0.0}
        return {
            "mlp": Workload("vpsde", {"network": "mlp", "width": 16, "depth": 1}, (1, 8, 8), 8, 3),
            "small": Workload("ddpm", tiny, (1, 8, 8), 2, 2),
        }
    return {
        "mlp": Workload("vpsde", mlp, (1, 8, 8), 256, 50),
        "small": Workload("ddpm", small, (1, 16, 16), 64, 10),
        "ddpm": Workload("ddpm", ddpm, (3, 32, 32), 128, 10),
    }


def harness(work: Workload, model: Model, bench: Bench) -> Callable[[], Stopped]:
    """Steps of ``standard`` by the trainer: log, guard, counted passes, clipping, Adam, EMA."""

    def train() -> Stopped:
        window, time = Window(work.steps, bench), Stopped(0.0)

        def on_step(*_: object) -> None:
            nonlocal time
            stopped = window.tick()
            if stopped is not None:
                time = stopped
                raise EnoughError

        own = bench.runtime.place(copy.deepcopy(model))  # a copy is not compiled
        with contextlib.suppress(EnoughError):
            fit(own, work.data(), work.budget(LONG), bench, on_step)
        return time

    return train


def fit(
    model: Model,
    data: Data,
    budget: Training,
    bench: Bench,
    on_step: Callable[..., object] = lambda *_: None,
) -> Model:
    """``model``, trained on the data by ``standard``."""
    splits = {"all": data.train.to(bench.runtime.device)}
    method = registry().create("methods", "standard")
    noised = NoisedBatches(splits, model, 0, budget.batch_size)
    trainer = Trainer(model, method, noised, budget, bench.runtime, 0)
    with tempfile.TemporaryDirectory() as folder:
        trainer.run(Path(folder), on_step)
    return model


def least_loop(
    work: Workload, model: Model, bench: Bench, losses: Callable[[nn.Module, Tensor], Tensor]
) -> Callable[[], Stopped]:
    """The least loop in plain torch: batch, loss, backward, clipping, fused Adam, foreach EMA.

    Args:
        work: Batch and steps.
        model: Its network is trained.
        bench: Device and precision.
        losses: The loss of the network on a batch of images in [-1, 1].
    """
    images = work.data().train.x.to(bench.runtime.device)
    budget = work.budget(work.steps)

    def train() -> Stopped:
        network = bench.runtime.place(copy.deepcopy(model)).network.train()
        weights = list(network.parameters())
        mean = [p.detach().clone() for p in weights]
        optimizer = torch.optim.Adam(weights, lr=budget.learning_rate, fused=True)
        window = Window(work.steps, bench)
        with bench.runtime.active():
            for x0 in batches(images, work.batch):
                optimizer.zero_grad(set_to_none=True)
                losses(network, x0).backward()
                nn.utils.clip_grad_norm_(weights, budget.max_grad_norm)
                optimizer.step()
                torch._foreach_lerp_(mean, [p.detach() for p in weights], 1 - budget.ema_decay)
                time = window.tick()
                if time is not None:
                    return time
        raise AssertionError("batches end")

    return train


def batches(images: Tensor, size: int) -> Iterator[Tensor]:
    """Dequantised batches in [-1, 1] of an endless sequence of epochs."""
    while True:
        for chosen in torch.randperm(len(images), device=images.device).split(size):
            x = images[chosen].float()
            yield (x + torch.rand_like(x)) / 128 - 1
