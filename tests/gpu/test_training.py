"""Training on the device: repeated, killed and resumed, and beside the CPU."""

from __future__ import annotations

import math
import os
import signal
import statistics
from dataclasses import replace

import pytest
import torch

from msgm_bench import DataStats, Training
from msgm_bench.registry import registry
from msgm_bench.training import NoisedBatches, Runtime, Trainer

pytestmark = pytest.mark.gpu
TOLERANCE = 1e-5  # largest difference of a weight between two runs of the same steps
UNET = {"network": "unet", "channels": (16, 32), "attention": (4,), "dropout": 0.1}


def silent(*arguments):
    """Hears of progress."""


def trainer_of(runtime, dataset="digits", options=UNET, method="obt", **budget):
    """A fresh model with its trainer; weights are drawn on the CPU whatever the device."""
    data = registry().create("datasets", dataset).load()
    backbone = registry().create("backbones", "vpsde", options)
    torch.manual_seed(1)
    model = runtime.place(backbone.build(DataStats.of(data)))
    retain, forget = data.split(data.train, (0,))
    splits = {"retain": retain.to(runtime.device), "forget": forget.to(runtime.device)}
    chosen = Training(**{"steps": 24, "batch_size": 64, "learning_rate": 1e-3} | budget)
    noised_batches = NoisedBatches(splits, model, 0, chosen.batch_size)
    learner = registry().create("methods", method)
    return Trainer(model, learner, noised_batches, chosen, runtime, 0, None, data.labels((0,)))


def weights(trainer):
    """All weights as one vector on the CPU."""
    return torch.cat([p.detach().reshape(-1).cpu() for p in trainer.model.parameters()])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_repeats(precision, runtime, tmp_path):
    """The same seed ends with the same weights, and with finite ones."""
    ends = []
    for name in "ab":
        trainer = trainer_of(replace(runtime, precision=precision))
        trainer.run(tmp_path / name, silent)
        ends.append(weights(trainer))
    assert torch.isfinite(ends[0]).all()
    torch.testing.assert_close(*ends, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("method", ["obt", "salun"])
def test_kill_and_resume(method, runtime, tmp_path):
    """Interrupted in the middle, with checkpoint and resume, it ends where the whole one does."""

    def interrupt(step, total, values, part=""):
        if step == 9 and not part:
            os.kill(os.getpid(), signal.SIGINT)

    whole = trainer_of(runtime, method=method)
    whole.run(tmp_path / "whole", silent)
    with pytest.raises(KeyboardInterrupt):
        trainer_of(runtime, method=method).run(tmp_path / "parts", interrupt)
    resumed = trainer_of(runtime, method=method)
    log = resumed.run(tmp_path / "parts", silent)
    assert [row["step"] for row in log.rows] == list(range(1, 25))
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=TOLERANCE)


def test_the_device_learns_what_the_cpu_learns(runtime, tmp_path):
    """Noise differs between devices, so losses agree within their Monte-Carlo error.

    Mean over the last hundred of two hundred steps, five standard errors of the difference.
    """
    ends = []
    options = {"network": "mlp", "width": 32, "depth": 1}
    for name, place in (("cpu", Runtime.select("cpu")), ("device", runtime)):
        trainer = trainer_of(place, "gaussians", options, "unseen", steps=200, batch_size=256)
        rows = trainer.run(tmp_path / name, silent).rows
        ends.append([row["loss"] for row in rows[-100:]])
    (a, b), errors = map(statistics.mean, ends), [statistics.variance(e) / 100 for e in ends]
    assert abs(a - b) < 5 * math.sqrt(sum(errors))
    assert a < 0.9, "the noise is predicted better than by zero"


def test_the_average_waits_for_no_device(runtime):
    """Its updates read nothing back: CUDA would raise where the host has to wait."""
    if runtime.device.type != "cuda":
        pytest.skip("only a CUDA device is waited for")
    trainer = trainer_of(runtime)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            trainer.ema.update()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.ema.count == 3
