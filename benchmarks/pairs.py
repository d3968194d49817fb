"""Two things measured in turn in one run, A B A B ..., so that a busy machine slows both.

On a CPU the clock is CPU time, this process's and its ended children's: other processes take turns
with a benchmark and do not add to it. On a GPU it is wall time after the device's queue is empty.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from msgm_bench.training import Runtime

Work = Callable[[], object]
"""A and B, measured from outside."""


@dataclass(frozen=True)
class Stopped:
    """What a work returns that measures itself.

    Attributes:
        seconds: Time of the part that counts, by ``Clock``.
    """

    seconds: float


@dataclass(frozen=True)
class Clock:
    """Seconds: CPU time, or wall time of a GPU.

    Attributes:
        device: The device.
        is_wall: Whether it is wall time.
    """

    device: torch.device
    is_wall: bool

    def __call__(self) -> float:
        """The time now."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        if self.is_wall:
            return time.perf_counter()
        children = os.times()
        return time.process_time() + children.children_user + children.children_system

    @property
    def name(self) -> str:
        """What is measured."""
        return "wall time" if self.is_wall else "CPU time"


@dataclass(frozen=True)
class Bench:
    """Device, clock, and how often a pair is repeated.

    Attributes:
        runtime: Device and precision.
        pairs: Repeats of a pair.
        smoke: Whether sizes are the smallest that run.
        is_wall: Whether the clock is wall time on a CPU, too.
    """

    runtime: Runtime
    pairs: int
    smoke: bool
    is_wall: bool = False

    @property
    def clock(self) -> Clock:
        """The clock."""
        return Clock(self.runtime.device, self.is_wall or self.runtime.device.type == "cuda")

    def header(self, title: str) -> None:
        """Print hardware, clock and the head of a table."""
        print(f"{hardware_line(self.runtime)}\n{title}; {self.clock.name}, median of {self.pairs}")
        print(f"{'A / B':<56}{'A ms':>10}{'B ms':>10}{'A/B':>7}  smallest to largest")

    def row(
        self, name: str, a: Work, b: Work, units: int = 1, warm_up: bool = True
    ) -> tuple[float, float]:
        """One line: A and B in turn, after one warm-up of each; medians in seconds a unit."""
        times: tuple[list[float], list[float]] = ([], [])
        for i in range(self.pairs + warm_up):
            for work, seconds in zip((a, b), times, strict=True):
                elapsed = self.measure(work) / units
                seconds.extend([elapsed] if i >= warm_up else [])
        ratios = sorted(x / y for x, y in zip(*times, strict=True) if y)
        first, second = (statistics.median(seconds) for seconds in times)
        middle = statistics.median(ratios) if ratios else float("nan")
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}" if ratios else ""
        print(
            f"{name:<56}{1000 * first:>10.3f}{1000 * second:>10.3f}{middle:>7.2f}  {spread}",
            flush=True,
        )
        return first, second

    def measure(self, work: Work) -> float:
        """Seconds of ``work``, or those that it measured itself."""
        started = self.clock()
        result = work()
        return result.seconds if isinstance(result, Stopped) else self.clock() - started


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options that all benchmarks have."""
    options = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    options.add_argument("--device", default="cpu")
    options.add_argument("--precision", default="fp32", choices=("fp32", "tf32", "bf16"))
    options.add_argument("--compile", action="store_true", help="torch.compile on both sides")
    options.add_argument("--pairs", type=int, default=7, help="repeats of a pair")
    options.add_argument("--smoke", action="store_true", help="the smallest sizes: does it run?")
    return options


def bench(options: argparse.Namespace) -> Bench:
    """Device, precision and repeats of the command line."""
    runtime = Runtime.select(options.device, options.precision, options.compile)
    return Bench(runtime, 1 if options.smoke else options.pairs, options.smoke)


def hardware_line(runtime: Runtime) -> str:
    """Device, processor, threads, precision, versions: no number stands without it."""
    cpu = f"{processor()}, {os.cpu_count()} cores"
    device = "" if runtime.device.type == "cpu" else f"{runtime.hardware()['name']}, "
    compiled = ", compiled" if runtime.compile else ""
    return (
        f"{device}{cpu}, {torch.get_num_threads()} threads, {runtime.precision}{compiled}, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )


def processor() -> str:
    """The processor's name, as far as the system says it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [
                line.partition(":")[2].strip() for line in file if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
