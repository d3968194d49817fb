"""Captured steps on the device: beside eager ones, and no step that waits for the host."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from msgm_bench import DataStats, Training
from msgm_bench.registry import registry
from msgm_bench.training import NoisedBatches, Trainer
from msgm_bench.training.captured_step import CapturedSteps, CudaGraphs

pytestmark = pytest.mark.gpu
TOLERANCE = 1e-5  # largest difference of a weight between captured and eager steps
STEPS = 40
NETWORKS = {
    "mlp": {"network": "mlp", "width": 32, "depth": 2},
    "unet": {"network": "unet", "channels": (16, 32), "attention": (4,), "dropout": 0.2},
}


def silent(*arguments):
    """A callback of progress that does nothing."""


@pytest.fixture
def cuda(runtime):
    """The runtime of a CUDA device."""
    if runtime.device.type != "cuda":
        pytest.skip("only CUDA has graphs")
    return runtime


def trainer_of(runtime, method, network="mlp", backbone="vpsde", classes=None, **budget):
    """A fresh model with its trainer; the base is its start."""
    data = registry().create("datasets", "digits").load()
    torch.manual_seed(1)
    stats = replace(DataStats.of(data), classes=classes)
    model = runtime.place(registry().create("backbones", backbone, NETWORKS[network]).build(stats))
    base = copy.deepcopy(model).eval().requires_grad_(False)
    retain, forget = data.split(data.train, (0,))
    splits = {"all": data.train, "retain": retain, "forget": forget}
    splits = {name: items.to(runtime.device) for name, items in splits.items()}
    chosen = Training(**{"steps": STEPS, "batch_size": 64, "learning_rate": 1e-3} | budget)
    batches = NoisedBatches(splits, model, 0, chosen.batch_size)
    made = registry().create("methods", method)
    labels = data.labels((0,))
    return Trainer(model, made, batches, chosen, runtime, 0, base, labels, concepts=(0,))


def weights(trainer):
    """Weights and averages as one vector on the CPU."""
    parts = [*trainer.parameters, *trainer.ema.parameters.values()]
    return torch.cat([part.detach().reshape(-1).cpu() for part in parts])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("method", ["unseen", "ort", "obt", "erase", "neggrad"])
def test_captured_steps_are_eager_steps(method, network, precision, cuda, tmp_path):
    """Weights, averages, passes and losses; the U-Net drops out the same units."""
    runtime = replace(cuda, precision=precision)
    captured, eager = (trainer_of(runtime, method, network) for _ in range(2))
    graphs = CapturedSteps(captured.method, CudaGraphs(runtime.device))
    captured.captured_steps, eager.captured_steps = graphs, None
    logs = [t.run(tmp_path / str(i), silent).rows for i, t in enumerate((captured, eager))]
    assert graphs.reason is None
    assert len(graphs._captures) == len({eager.method.step_kind(step) for step in range(STEPS)})
    torch.testing.assert_close(weights(captured), weights(eager), rtol=0, atol=TOLERANCE)
    assert captured.passes.thirds == eager.passes.thirds
    for a, b in zip(*logs, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-4)


def test_small_networks_are_captured(cuda, tmp_path):
    """The runtime chooses it by itself."""
    trainer = trainer_of(cuda, "obt")
    assert isinstance(trainer.captured_steps, CapturedSteps)


@pytest.mark.parametrize("backbone", ["vpsde", "ddpm", "vesde"])
@pytest.mark.parametrize("method", registry().names("methods"))
def test_no_step_waits_for_the_device(method, backbone, cuda, tmp_path):
    """CUDA would raise where the host reads back or copies a number; rows are logged apart."""
    classes = 10
    options = {"selective_amnesia": {"samples_per_class": 4, "nfe": 2, "fisher_timesteps": 2}}
    trainer = trainer_of(cuda, method, backbone=backbone, classes=classes, steps=1000)
    trainer.method = registry().create("methods", method, options.get(method, {}))
    trainer.captured_steps = None
    if trainer.method.closed_form or trainer.method.skip(trainer.model, "finetune"):
        pytest.skip("trains no such model step by step")
    with trainer._in_session():
        trainer._start(tmp_path)
        units = trainer.method.num_preparation_steps(trainer)
        for _ in range(units):
            trainer._run_preparation_step(units, silent)
        for _ in range(2):
            trainer._advance(silent)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(2):
                trainer._advance(silent)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert trainer.step == 4
