"""Where the time of a training step goes, and what each choice of the runtime costs or saves.

    python benchmarks/profile_step.py --device cuda --precision bf16
    python benchmarks/profile_step.py --device cuda --workload mlp

First the kernels of the harness's steps by time, and the time in which the host waited for the
device or started kernels, with shares of the wall time; then pairs of runtimes that differ in one
choice; then the likelihood of MNIST-shaped images by the default network. A profiler slows what it
watches: the times that count are those of the pairs.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from pairs import Bench, Stopped, bench, hardware_line, parser
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from workloads import LONG, EnoughError, Window, Workload, fit, harness, workloads

from msgm_bench import Model, Noise, adams_nll
from msgm_bench.training import Runtime

KERNELS = 12
WAITING = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
STARTING = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cudaGraphLaunch")
NODES = 32


@dataclass(frozen=True)
class Choice(Runtime):
    """A runtime of which single choices are turned.

    Attributes:
        deterministic: Whether cuDNN takes deterministic kernels alone.
        channels_last: Memory format of a GPU's networks; a CPU's, too, here.
        capture: Whether steps are captured, where the runtime would.
    """

    deterministic: bool = True
    channels_last: bool = True
    capture: bool = True

    def place(self, model: Model) -> Model:
        """Move the model in the chosen format."""
        super().place(model)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return model.to(memory_format=layout)

    def captures(self, model: Model) -> bool:
        """Whether steps of the model are captured."""
        return self.capture and super().captures(model)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """The block, with the chosen kernels."""
        with super().active():
            torch.backends.cudnn.deterministic = self.deterministic
            yield


def main(arguments: list[str] | None = None) -> None:
    """Profile, measure, print."""
    options = parser(__doc__)
    options.add_argument("--workload", action="append", help="mlp, small or ddpm; may be repeated")
    options.add_argument("--steps", type=int, default=20, help="steps under the profiler")
    options.add_argument("--items", type=int, default=1000, help="images of the likelihood")
    chosen = options.parse_args(arguments)
    meter = bench(chosen)
    if meter.smoke:
        chosen.steps, chosen.items = 2, 2
    is_cuda = meter.runtime.device.type == "cuda"
    listed = workloads(meter.smoke)
    usual = ("ddpm", "small", "mlp") if is_cuda else ("small",)
    names = chosen.workload or [name for name in usual if name in listed]
    for name in names:
        if name not in listed:
            raise SystemExit(f"--workload {name}: choose from {', '.join(listed)}")
        profile_steps(name, listed[name], meter, chosen.steps)
    meter.header("training step")
    for name in names:
        compare_choices(name, listed[name], meter)
    likelihood(meter, chosen)


def profile_steps(name: str, work: Workload, meter: Bench, steps: int) -> None:
    """The table of kernels of ``steps`` steps."""
    is_cuda = meter.runtime.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
    profiler, window = profile(activities=activities), Window(steps, replace(meter, is_wall=True))
    times: list[float] = []

    def on_step(*_: object) -> None:
        stopped = window.tick()
        if window.count == window.skipped:
            profiler.start()
        if stopped is not None:
            profiler.stop()
            times.append(stopped.seconds)
            raise EnoughError

    with contextlib.suppress(EnoughError):
        fit(work.model(meter), work.data(), work.budget(LONG), meter, on_step)
    print(hardware_line(meter.runtime))
    print(f"{name}, batch {work.batch}, {steps} steps of {1000 * times[0] / steps:.2f} ms")
    print_kernels(profiler.key_averages(), is_cuda, steps, times[0])


def print_kernels(events: list[Any], is_cuda: bool, steps: int, seconds: float) -> None:
    """Kernels by time, and where the host's time went; shares are of the wall time."""

    def of_kernel(event: Any) -> float:
        return float(event.self_device_time_total if is_cuda else event.self_cpu_time_total)

    def line(label: str, microseconds: float, calls: float) -> None:
        ms, share = microseconds / 1000 / steps, microseconds / 1e6 / max(seconds, 1e-9)
        print(f"{label[:70]:<72}{ms:>10.3f}{share:>7.2f}{calls / steps:>14.1f}")

    print(f"{'kernel':<72}{'ms a step':>10}{'share':>7}{'calls a step':>14}")
    kernels = events
    if is_cuda:  # operations repeat the time of the kernels that they start
        kernels = [event for event in events if event.device_type == DeviceType.CUDA]
    for event in sorted(kernels, key=of_kernel, reverse=True)[:KERNELS]:
        line(event.key, of_kernel(event), event.count)
    line("all kernels", sum(map(of_kernel, kernels)), sum(event.count for event in kernels))
    for label, names in (("the host waits", WAITING), ("the host starts kernels", STARTING)):
        chosen = [event for event in events if event.key in names]
        spent = sum(event.self_cpu_time_total for event in chosen)
        line(label, spent, sum(event.count for event in chosen))


def compare_choices(name: str, work: Workload, meter: Bench) -> None:
    """Pairs of steps that differ in one choice."""
    runtime, pairs = Choice(**vars(meter.runtime)), []
    if name != "mlp":
        pairs += [
            ("all kernels / deterministic ones", replace(runtime, deterministic=False), runtime),
            ("contiguous / channels_last", replace(runtime, channels_last=False), runtime),
        ]
    if runtime.device.type == "cuda":
        eager = replace(runtime, capture=False, compile=False)
        pairs.append(("compiled / not", replace(runtime, compile=True), eager))
        if runtime.captures(work.model(meter)):
            pairs.append(("captured / one by one", runtime, eager))
    for label, first, second in pairs:
        a, b = (steps_with(choice, work, meter) for choice in (first, second))
        meter.row(f"{name}, batch {work.batch}: {label}", a, b, work.steps)
    if name != "mlp":
        a, b = (steps_with(runtime, w, meter) for w in (with_narrow_heads(work, meter), work))
        meter.row(f"{name}, batch {work.batch}: heads of width 8 / one head", a, b, work.steps)


def steps_with(choice: Choice, work: Workload, meter: Bench) -> Callable[[], Stopped]:
    """The harness's steps under a runtime; each repeat compiles anew, before its window."""
    chosen = replace(meter, runtime=choice)
    train = harness(work, work.model(chosen), chosen)

    def repeat() -> Stopped:
        if choice.compile:
            torch.compiler.reset()
        return train()

    return repeat


def with_narrow_heads(work: Workload, meter: Bench) -> Workload:
    """The network of a workload with attention in heads of width 8, diffusers' default."""
    config = work.model(meter).network.describe()
    keys = ("network", "up_attention", "last_layer", "prediction")
    network = {key: value for key, value in config.items() if key not in keys}
    return replace(work, options={"network": network | {"attention_head_dim": 8}})


def likelihood(meter: Bench, options: argparse.Namespace) -> None:
    """Seconds of the likelihood of MNIST-shaped images by the default network, in fp32."""
    runtime, shape = meter.runtime.measuring, (1, 28, 28)
    channels = (32, 32) if meter.smoke else (128, 256, 256)
    work = Workload("vpsde", {"network": "unet", "channels": channels}, shape, options.items, 1)
    model = work.model(replace(meter, runtime=runtime)).eval()
    x = model.codec.encode(work.data().train.x[: options.items].to(runtime.device))
    nodes = 4 if meter.smoke else NODES

    def work_through() -> int:
        nfe = 0
        for start in range(0, len(x), 250):
            part = x[start : start + 250]
            noise = Noise(0, start, len(part), runtime.device)
            nfe = adams_nll(
                *(model.eps, model.process, part, noise), divergence="hutchinson", nodes=nodes
            ).nfe
        return nfe

    with runtime.active():
        nfe = work_through()
        seconds = meter.measure(work_through)
    print(
        f"{hardware_line(runtime)}\nlikelihood of {len(x)} images of 1x28x28 by the network of "
        f"channels {channels}: {seconds:.2f} s, {nfe} evaluations, {meter.clock.name}"
    )


if __name__ == "__main__":
    main()
