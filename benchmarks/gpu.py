"""Try a device: its tests, the benchmark and one small image board, and a report of them.

    python benchmarks/gpu.py                 on a CUDA device, less than ten minutes
    python benchmarks/gpu.py --device cpu    the same with tiny budgets: does it run at all?

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


def main() -> None:
    """Run the parts, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    options = parser.parse_args()
    runtime = Runtime.select(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for part in parts(runtime, options.out.resolve()):
        print(f"{part.title} ...", flush=True)
        outcomes.append(run(part))
        print(f"  {status(outcomes[-1])}", flush=True)
    report = options.out / "report.md"
    report.write_text(render(runtime, outcomes), encoding="utf-8")
    print(report)
    sys.exit(any(outcome.code for outcome in outcomes) or any(o.code is None for o in outcomes))


def parts(runtime: Runtime, out: Path) -> list[Part]:
    """Tests, benchmark, board; a CPU gets budgets that say only whether they run."""
    device, whole = str(runtime.device), runtime.device.type == "cuda"
    env = {"MSGM_BENCH_TEST_DEVICE": device, "MSGM_BENCH_CACHE": str(out / "cache")}
    plain = ("-q", "-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "no:xdist")
    tests = (sys.executable, "-m", "pytest", *plain, "-m", "gpu", "tests/gpu", "--durations=5")
    speed = (sys.executable, "benchmarks/speed.py", "--device", device)
    steps, samples = ("3000", "2000") if whole else ("10", "16")
    board = (
        *(*PYTHON, "run", "--dataset", "digits", "--forget", "3,7", "--backbone", "vesde"),
        *("-b", "network=unet", "-b", "channels=[32,64]" if whole else "channels=[8,16]"),
        *("--preset", "quick", "--regime", "finetune", "--steps", steps, "--samples", samples),
        *("-t", "likelihood.repeats=1", "-t", "likelihood.rtol=1e-3", "-t", "likelihood.atol=1e-3"),
        *(word for name in METHODS for word in ("--method", name)),
        *("--device", device, "--out", str(out / "board")),
    )
    return [
        Part("Tests", tests, 240, env),
        Part("Benchmark", (*speed, "--pairs", "7" if whole else "1"), 120, env),
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
