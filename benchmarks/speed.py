"""Ratios of what costs time, measured side by side.

python benchmarks/speed.py
python benchmarks/speed.py --device cuda
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from pairs import bench, parser

from msgm_bench import DataStats, Noise, Training, derive_seed, dsm_loss, ode_nll
from msgm_bench.registry import registry
from msgm_bench.training import NoisedBatches, Runtime
from msgm_bench.training.runtime import Precision

Pair = tuple[str, Callable[[], object], Callable[[], object]]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    meter = bench(parser(__doc__).parse_args(arguments))
    runtime = meter.runtime
    meter.header("ratios")
    with runtime.active():
        pairs = [*networks(runtime), *steps(runtime), *precisions(runtime), *likelihoods(runtime)]
        for name, a, b in [*pairs, *startup()]:
            meter.row(name, a, b)


def setting(runtime: Runtime, **options: object) -> tuple[torch.nn.Module, NoisedBatches]:
    """The digits, a VE backbone and its batches."""
    data = registry().create("datasets", "digits").load()
    backbone = registry().create("backbones", "vesde", options)
    model = runtime.place(backbone.build(DataStats.of(data)))
    noised_batches = NoisedBatches(
        {"all": data.train.to(runtime.device)}, model, 0, Training(batch_size=256).batch_size
    )
    return model, noised_batches


def descent(
    model: torch.nn.Module, noised_batches: NoisedBatches, **adam: object
) -> Callable[[], object]:
    """One optimiser step on a batch of 256."""
    optimizer = torch.optim.Adam(model.parameters(), **adam)
    batch = noised_batches.batch("all", 0)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        dsm_loss(model, batch).backward()
        optimizer.step()

    return step


def networks(runtime: Runtime) -> list[Pair]:
    """The U-Net against the MLP that the quick preset of the digits uses."""
    unet = setting(runtime, network="unet", channels=(32, 64))
    mlp = setting(runtime, network="mlp", width=256, depth=3)
    return [("training step: U-Net (32, 64) / MLP (256, 3)", descent(*unet), descent(*mlp))]


def steps(runtime: Runtime) -> list[Pair]:
    """What a training step consists of."""
    model, noised_batches = setting(runtime, network="mlp", width=256, depth=3)
    other, _ = setting(runtime, network="mlp", width=256, depth=3)
    whole = descent(model, noised_batches, fused=True)
    return [
        ("training step: Adam by loops / fused", descent(other, noised_batches), whole),
        ("drawing a batch / training step", lambda: noised_batches.batch("all", 1), whole),
    ]


def precisions(runtime: Runtime) -> list[Pair]:
    """What rounding saves in a step of the U-Net; on a CPU nothing but bf16 differs."""
    chosen: tuple[Precision, ...] = ("tf32", "bf16") if runtime.device.type == "cuda" else ("bf16",)

    def step(precision: Precision) -> Callable[[], object]:
        rounded = replace(runtime, precision=precision)
        plain = descent(*setting(runtime, network="unet", channels=(32, 64)), fused=True)

        def work() -> None:
            with rounded.active():
                plain()

        return work

    return [(f"training step of the U-Net: fp32 / {p}", step("fp32"), step(p)) for p in chosen]


def likelihoods(runtime: Runtime) -> list[Pair]:
    """Exact trace against Hutchinson's estimate, on 16 images."""
    model, noised_batches = setting(runtime, network="mlp", width=64, depth=1)
    z = noised_batches.batch("all", 0).x0[:16]

    def nll(divergence: str) -> Callable[[], object]:
        noise = Noise(derive_seed(0, "benchmark"), 0, len(z), runtime.device)
        return lambda: ode_nll(
            model.eps, model.process, z, noise, divergence=divergence, rtol=1e-3, atol=1e-3
        )

    return [("likelihood in 64 dimensions: exact / Hutchinson", nll("exact"), nll("hutchinson"))]


def startup() -> list[Pair]:
    """What answering --help costs beside starting Python."""
    beside = Path(sys.executable).with_name("msgm-bench")
    command = beside if beside.exists() else shutil.which("msgm-bench")
    if command is None:
        return []

    def call(*words: str) -> Callable[[], object]:
        return lambda: subprocess.run(words, check=True, capture_output=True)

    asked, plain = call(str(command), "--help"), call(sys.executable, "-c", "pass")
    return [("msgm-bench --help / python -c pass", asked, plain)]


if __name__ == "__main__":
    main()
