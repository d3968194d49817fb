"""A training step: the harness beside the least loop, diffusers and score_sde; FLOPs beside a GEMM.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --score-sde DIR
    python benchmarks/training_step.py --device cuda --precision bf16 --workload ddpm

Both sides train copies of one network with equal batches, clipping, fused Adam (score_sde: its
own) and moving average. ``A/B`` above 1 is what the harness costs.
"""

from __future__ import annotations

import argparse
import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from pairs import Bench, Stopped, bench, parser
from released import Score, score_sde
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from workloads import Workload, batches, harness, least_loop, workloads

from msgm_bench import Model


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--workload", action="append", help="mlp, small or ddpm; may be repeated")
    options.add_argument("--score-sde", type=Path, metavar="DIR", help="a checkout of its PyTorch")
    chosen = options.parse_args(arguments)
    meter = bench(chosen)
    released = score_sde(chosen.score_sde) if chosen.score_sde else None
    meter.header("training step")
    listed = workloads(meter.smoke)
    for name in chosen.workload or ("mlp", "small"):
        if name not in listed:
            raise SystemExit(f"--workload {name}: choose from {', '.join(listed)}")
        compare(name, listed[name], meter, released)


def compare(name: str, work: Workload, meter: Bench, released: SimpleNamespace | None) -> None:
    """The lines of a workload."""
    model = work.model(meter)
    ours = harness(work, model, meter)
    is_unet = name != "mlp"
    loss = diffusers_loss() if is_unet else continuous_loss(model)
    other = "plain diffusers loop" if is_unet else "least loop"
    plain = least_loop(work, model, meter, loss)
    seconds, _ = meter.row(f"{name}: harness / {other}", ours, plain, work.steps)
    if released is not None and not is_unet:
        theirs = score_sde_loop(work, model, meter, released)
        meter.row(f"{name}: harness / score_sde", ours, theirs, work.steps)
    flops, peak = step_flops(work, model, meter, loss), gemm_flops(meter)
    print(
        f"{name}: {flops / 1e9:,.2f} GFLOP a step, {flops / seconds / 1e9:,.1f} GFLOP/s, "
        f"{flops / seconds / peak:.2f} of this run's GEMM ({peak / 1e9:,.1f} GFLOP/s)"
    )


def diffusers_loss() -> Callable[[nn.Module, Tensor], Tensor]:
    """Mean squared error of diffusers' network by its own scheduler of noise."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    scheduler = DDPMScheduler(num_train_timesteps=1000)

    def loss(network: nn.Module, x0: Tensor) -> Tensor:
        eps = torch.randn_like(x0)
        t = torch.randint(1000, (len(x0),), device=x0.device)
        return functional.mse_loss(network.unet(scheduler.add_noise(x0, eps, t), t).sample, eps)

    return loss


def continuous_loss(model: Model) -> Callable[[nn.Module, Tensor], Tensor]:
    """Mean squared error of eps_hat(a x0 + sigma eps, t) at t uniform in [t_min, T]."""
    process = model.process

    def loss(network: nn.Module, x0: Tensor) -> Tensor:
        eps, u = torch.randn_like(x0), torch.rand(len(x0), device=x0.device)
        t = process.sample_times(u)
        return functional.mse_loss(network(process.perturb(x0, t, eps), t), eps)

    return loss


def score_sde_loop(
    work: Workload, model: Model, meter: Bench, released: SimpleNamespace
) -> Callable[[], Stopped]:
    """score_sde's own step function on the same network: its SDE, loss, clipping and average."""
    images, budget = work.data().train.x.to(meter.runtime.device), work.budget(work.steps)
    optim = argparse.Namespace(lr=budget.learning_rate, warmup=0, grad_clip=budget.max_grad_norm)
    manage = released.losses.optimization_manager(argparse.Namespace(optim=optim))
    sde = released.sde_lib.VPSDE()

    def train() -> Stopped:
        network = Score(copy.deepcopy(model))
        ema = released.ema.ExponentialMovingAverage(network.parameters(), budget.ema_decay)
        adam = torch.optim.Adam(network.parameters(), lr=budget.learning_rate)
        step = released.losses.get_step_fn(sde, True, manage, reduce_mean=True, continuous=True)
        state = {"model": network, "optimizer": adam, "ema": ema, "step": 0}
        times = []
        with meter.runtime.active():
            for x0 in itertools.islice(batches(images, work.batch), work.steps + 1):
                step(state, x0)
                times.append(meter.clock())
        return Stopped(times[-1] - times[0])

    return train


def step_flops(
    work: Workload, model: Model, meter: Bench, loss: Callable[[nn.Module, Tensor], Tensor]
) -> int:
    """Floating-point operations of a forward and its backward, by torch's counter."""
    x0 = next(batches(work.data().train.x.to(meter.runtime.device), work.batch))
    network = copy.deepcopy(model.network)
    with meter.runtime.active(), FlopCounterMode(display=False) as counter:
        loss(network, x0).backward()
    return int(counter.get_total_flops())


def gemm_flops(meter: Bench) -> float:
    """FLOP/s of a square matrix product in this precision, the best of several."""
    device = meter.runtime.device
    n = (8192 if device.type == "cuda" else 1024) if not meter.smoke else 64
    dtype = torch.bfloat16 if meter.runtime.precision == "bf16" else torch.float32
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))

    def product() -> None:
        for _ in range(4):
            torch.mm(a, b)

    with meter.runtime.active():
        best = min(meter.measure(product) for _ in range(6))
    return 4 * 2 * n**3 / max(best, 1e-9)


if __name__ == "__main__":
    main()
