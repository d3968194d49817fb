"""Ratios of what costs time, measured side by side."""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from msgm_bench import DataStats, Noise, Training, derive_seed, dsm_loss, ode_nll
from msgm_bench.registry import registry
from msgm_bench.training import NoisedBatches, Runtime
from msgm_bench.training.runtime import Precision

Pair = tuple[str, Callable[[], object], Callable[[], object]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=7)
    given = parser.parse_args()
    runtime = Runtime.select(given.device)
    hardware = runtime.hardware()
    print(
        ", ".join(f"{key} {value}" for key, value in hardware.items() if key != "peak_memory_mib")
    )
    print(f"{'A / B':<52}{'A ms':>9}{'B ms':>9}{'A/B':>7}  smallest to largest")
    with runtime.active():
        pairs = [*networks(runtime), *steps(runtime), *precisions(runtime), *likelihoods(runtime)]
        for name, a, b in [*pairs, *startup()]:
            report(name, a, b, given.pairs, runtime)


def report(
    name: str, a: Callable[[], object], b: Callable[[], object], pairs: int, runtime: Runtime
) -> None:
    """One line: A and B in turn, after one warm-up of each."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(pairs + 1):
        for function, list_ in zip((a, b), times, strict=True):
            started = time.perf_counter()
            function()
            if runtime.device.type == "cuda":
                torch.cuda.synchronize()
            if i:
                list_.append(1000 * (time.perf_counter() - started))
    ratios = sorted(x / y for x, y in zip(*times, strict=True))
    a_ms, b_ms = (statistics.median(list_) for list_ in times)
    middle = statistics.median(ratios)
    print(f"{name:<52}{a_ms:>9.2f}{b_ms:>9.2f}{middle:>7.2f}  {ratios[0]:.2f} to {ratios[-1]:.2f}")


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
