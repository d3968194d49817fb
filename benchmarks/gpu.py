"""Try a device: its tests, benchmarks, profile, a demo and one small board, and a report of them.

    python benchmarks/gpu.py                          on a CUDA device
    python benchmarks/gpu.py --device cpu             the same with tiny budgets: does it run?
    python benchmarks/gpu.py --device cpu --smoke     the profile alone, in its smallest sizes

The report, ``runs/gpu/report.md``, names the hardware. Exit code 1 where a part failed; the other
parts are run and reported all the same.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from msgm_bench.training import Runtime

ROOT = Path(__file__).resolve().parent.parent
PYTHON = (sys.executable, "-c", "from msgm_bench.cli.main import main; main()")
METHODS = ("standard", "unseen", "ort", "obt")


@dataclass(frozen=True)
class Part:
    """One part of the trial.

    Attributes:
        title: Its heading.
        command: What is run, in the root of the repository.
        limit: Seconds after which it is given up.
        env: Environment on top of this process's.
    """

    title: str
    command: tuple[str, ...]
    limit: float
    env: Mapping[str, str]


@dataclass(frozen=True)
class Outcome:
    """What came of a part: its exit code (None: given up), its output, and seconds."""

    part: Part
    code: int | None
    output: str
    seconds: float


def main(arguments: list[str] | None = None) -> None:
    """Run the parts, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="bf16", choices=("fp32", "tf32", "bf16"))
    parser.add_argument("--smoke", action="store_true", help="the profile in its smallest sizes")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    options = parser.parse_args(arguments)
    runtime = Runtime.select(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    outcomes = []
    out = options.out.resolve()
    whole = runtime.device.type == "cuda" and not options.smoke
    chosen = benchmarks(runtime, options.precision, whole, out)
    chosen = chosen[-1:] if options.smoke else [*parts(runtime, out), *chosen]
    for part in chosen:
        print(f"{part.title} ...", flush=True)
        outcomes.append(run(part))
        print(f"  {status(outcomes[-1])}", flush=True)
    report = options.out / "report.md"
    report.write_text(render(runtime, outcomes), encoding="utf-8")
    print(report)
    sys.exit(any(outcome.code for outcome in outcomes) or any(o.code is None for o in outcomes))


def environment(runtime: Runtime, out: Path) -> dict[str, str]:
    """The device of the tests, and a cache of the report's own: nothing is answered from before."""
    return {"MSGM_BENCH_TEST_DEVICE": str(runtime.device), "MSGM_BENCH_CACHE": str(out / "cache")}


def benchmarks(runtime: Runtime, precision: str, whole: bool, out: Path) -> list[Part]:
    """Training steps beside plain loops, not compiled and compiled, and the profile."""
    env = environment(runtime, out)
    words = ("--device", str(runtime.device), "--precision", precision)
    words += () if whole else ("--smoke",)
    step = (sys.executable, "benchmarks/training_step.py", *words, "--workload", "mlp")
    unet = (*step, "--workload", "ddpm", "--compile")
    listed = [
        Part("Training step", (*step, "--workload", "ddpm" if whole else "small"), 300, env),
        Part("Training step, compiled", unet, 600, env),
        Part("Profile", (sys.executable, "benchmarks/profile_step.py", *words), 900, env),
    ]
    return listed if whole else [listed[0], listed[2]]


def parts(runtime: Runtime, out: Path) -> list[Part]:
    """Tests, ratios, demo, board; a CPU gets budgets that say only whether they run."""
    device, whole = str(runtime.device), runtime.device.type == "cuda"
    env = environment(runtime, out)
    plain = ("-q", "-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "no:xdist")
    tests = (sys.executable, "-m", "pytest", *plain, "-m", "gpu", "tests/gpu", "--durations=5")
    speed = (sys.executable, "benchmarks/speed.py", "--device", device)
    steps, samples = ("3000", "2000") if whole else ("10", "16")
    board = (
        *(*PYTHON, "run", "--dataset", "digits", "--forget", "3,7", "--backbone", "vesde"),
        *("-b", "network=unet", "-b", "channels=[32,64]" if whole else "channels=[8,16]"),
        *("--preset", "quick", "--regime", "finetune", "--steps", steps, "--samples", samples),
        *("-t", "likelihood.repeats=1", "-t", "likelihood.rtol=1e-3", "-t", "likelihood.atol=1e-3"),
        *(() if whole else ("-j", "steps=10")),
        *(word for name in METHODS for word in ("--method", name)),
        *("--device", device, "--out", str(out / "board")),
    )
    demo = (
        *(*PYTHON, "run", "--dataset", "digits", "--forget", "3,7", "--backbone", "vesde"),
        *(word for name in METHODS for word in ("--method", name)),
        *("--seed", "0", "--device", device, "--out", str(out / "demo")),
        *(() if whole else ("--steps", "10", "--samples", "16", "-j", "steps=10")),
    )
    return [
        Part("Tests", tests, 600, env),
        Part("Ratios", (*speed, *(() if whole else ("--smoke",))), 120, env),
        Part("Demo: digits, as make demo", demo, 230, env),
        Part("Board: digits, a small U-Net", board, 230, env),
    ]


def run(part: Part) -> Outcome:
    """The part in a process of its own."""
    started = time.monotonic()
    try:
        done = subprocess.run(
            part.command,
            cwd=ROOT,
            env=os.environ | part.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=part.limit,
            check=False,
        )
        code, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        code, output = None, error.output or b""
    seconds = time.monotonic() - started
    return Outcome(part, code, output.decode("utf-8", "replace"), seconds)


def status(outcome: Outcome) -> str:
    """``passed in 3 s``, or how it ended."""
    if outcome.code is None:
        return f"given up after {outcome.part.limit:g} s"
    end = "passed" if outcome.code == 0 else f"failed with exit code {outcome.code}"
    return f"{end} in {outcome.seconds:.0f} s"


def render(runtime: Runtime, outcomes: list[Outcome]) -> str:
    """The report."""
    seconds = sum(outcome.seconds for outcome in outcomes)
    lines = ["# A trial of this device", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in hardware(runtime).items()]
    lines += [f"| all parts | {seconds:.0f} s |", ""]
    for outcome in outcomes:
        lines += [f"## {outcome.part.title}", "", f"{status(outcome)}.", ""]
        lines += ["```", *outcome.output.rstrip().splitlines(), "```", ""]
    return "\n".join(lines)


def hardware(runtime: Runtime) -> dict[str, object]:
    """What was computed on, and with what."""
    found: dict[str, object] = {
        "device": runtime.hardware()["name"],
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "Python": platform.python_version(),
        "torch": torch.__version__,
    }
    if runtime.device.type == "cuda":
        properties = torch.cuda.get_device_properties(runtime.device)
        found |= {
            "memory": f"{properties.total_memory / 2**30:.0f} GiB",
            "compute capability": f"{properties.major}.{properties.minor}",
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
        }
    return found


if __name__ == "__main__":
    main()
