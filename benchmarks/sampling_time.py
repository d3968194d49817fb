"""Sampling: the harness's samplers beside diffusers' schedulers in a plain loop, and score_sde's.

    python benchmarks/sampling_time.py
    python benchmarks/sampling_time.py --score-sde DIR
    python benchmarks/sampling_time.py --device cuda --workload ddpm

The same network is evaluated equally often on both sides, so that ``A/B`` is what stands around it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from pairs import Bench, bench, parser
from released import Score, score_sde
from torch import Tensor
from workloads import Workload, workloads

from msgm_bench import Model, Noise
from msgm_bench.registry import registry

NFE = 24


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--workload", default="small", choices=("small", "ddpm"))
    options.add_argument("--score-sde", type=Path, metavar="DIR", help="a checkout of its PyTorch")
    chosen = options.parse_args(arguments)
    meter = bench(chosen)
    released = score_sde(chosen.score_sde) if chosen.score_sde else None
    listed = workloads(meter.smoke)
    meter.header(f"sampling, {NFE} evaluations")
    with meter.runtime.active(), torch.no_grad():
        against_diffusers(listed[chosen.workload], meter)
        if released is not None:
            against_score_sde(listed["mlp"], meter, released)


def against_diffusers(work: Workload, meter: Bench) -> None:
    """DDIM and DPM-Solver++ on a U-Net."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    model = work.model(meter).eval()
    schedulers = {"ddim": DDIMScheduler, "dpmpp_2m": DPMSolverMultistepScheduler}
    for name, scheduler in schedulers.items():
        plain = plain_loop(model, work, meter, scheduler())
        meter.row(f"{name} / plain diffusers loop", harness(model, work, meter, name), plain)


def harness(model: Model, work: Workload, meter: Bench, name: str) -> Callable[[], Tensor]:
    """A sampler of the harness."""
    sampler = registry().create("samplers", name, {"nfe": NFE})

    def draw() -> Tensor:
        x: Tensor = sampler.sample(model, Noise(0, 0, work.batch, meter.runtime.device)).x
        return x

    return draw


def plain_loop(
    model: Model, work: Workload, meter: Bench, scheduler: object
) -> Callable[[], Tensor]:
    """A loop over a scheduler's time steps, as diffusers' pipelines have it."""
    unet = model.network.unet

    def draw() -> Tensor:
        scheduler.set_timesteps(NFE)
        x = torch.randn(work.batch, *work.shape, device=meter.runtime.device)
        for t in scheduler.timesteps:
            x = scheduler.step(unet(x, t).sample, t, x).prev_sample
        return x

    return draw


def against_score_sde(work: Workload, meter: Bench, released: SimpleNamespace) -> None:
    """Euler-Maruyama on a VP process."""
    model = work.model(meter).eval()
    sde = released.sde_lib.VPSDE(N=NFE)
    sample = released.sampling.get_pc_sampler(
        sde,
        (work.batch, *work.shape),
        released.sampling.get_predictor("euler_maruyama"),
        released.sampling.get_corrector("none"),
        inverse_scaler=lambda x: x,
        snr=0.16,
        continuous=True,
        eps=1e-3,
        device=meter.runtime.device,
    )
    network = Score(model)
    meter.row("em / score_sde", harness(model, work, meter, "em"), lambda: sample(network))


if __name__ == "__main__":
    main()
