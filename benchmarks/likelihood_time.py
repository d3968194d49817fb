"""A likelihood: exponential Adams beside dopri5, and beside score_sde's solver where it is.

    python benchmarks/likelihood_time.py
    python benchmarks/likelihood_time.py --score-sde DIR

One network, trained on the digits for ``--steps`` steps, and the same images on both sides. Below
each line: network evaluations, and the mean difference of the two results in bits/dim. Probes
differ between solvers, so that the difference has the noise of their trace.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from pairs import Bench, bench, parser
from released import Score, score_sde
from torch import Tensor
from workloads import fit

from msgm_bench import DataStats, Model, Noise, Training, adams_nll, ode_nll
from msgm_bench.registry import registry

NODES, TOLERANCE = 32, 1e-5


def main(arguments: list[str] | None = None) -> None:
    """Train, measure, print."""
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=600, help="training steps of the network")
    options.add_argument("--items", type=int, default=64, help="images")
    options.add_argument("--score-sde", type=Path, metavar="DIR", help="a checkout of its PyTorch")
    chosen = options.parse_args(arguments)
    meter = bench(chosen)
    if meter.smoke:
        chosen.steps, chosen.items = 2, 2
    released = score_sde(chosen.score_sde) if chosen.score_sde else None
    meter.header("likelihood")
    with meter.runtime.active():
        compare(meter, chosen, released)


def compare(meter: Bench, options: argparse.Namespace, released: SimpleNamespace | None) -> None:
    """The lines."""
    model, x = trained(meter, options.steps, options.items)
    noise = Noise(0, 0, len(x), meter.runtime.device)

    def adams() -> Tensor:
        result = adams_nll(model.eps, model.process, x, noise, divergence="hutchinson", nodes=NODES)
        nfe["adams"] = result.nfe
        return result.nats

    def dopri5() -> Tensor:
        result = ode_nll(
            *(model.eps, model.process, x, noise),
            divergence="hutchinson",
            rtol=TOLERANCE,
            atol=TOLERANCE,
        )
        nfe["dopri5"] = result.nfe
        return result.nats

    nfe: dict[str, int] = {}
    dim = x[0].numel()
    meter.row("Adams 32 / dopri5 1e-5", adams, dopri5)
    print_below(nfe, adams() - dopri5(), dim)
    if released is not None:
        theirs = released_nll(released, model, x, nfe)
        meter.row("Adams 32 / score_sde (RK45 1e-5)", adams, theirs)
        print_below(nfe, adams() - theirs(), dim)


def trained(meter: Bench, steps: int, items: int) -> tuple[Model, Tensor]:
    """A small network on a VP process, trained on the digits, and held-out images."""
    data = registry().create("datasets", "digits").load()
    options = {"network": "mlp", "width": 128, "depth": 2}
    model: Model = registry().create("backbones", "vpsde", options).build(DataStats.of(data))
    fit(meter.runtime.place(model), data, Training(steps=steps, batch_size=128), meter)
    x = data.test.x[:items].to(meter.runtime.device)
    return model.requires_grad_(False), model.codec.encode(x, torch.full(x.shape, 0.5))


def released_nll(
    released: SimpleNamespace, model: Model, x: Tensor, nfe: dict[str, int]
) -> Callable[[], Tensor]:
    """-log p [N] in nats by score_sde's own function."""
    dim = x[0].numel()
    solve = released.likelihood.get_likelihood_fn(
        released.sde_lib.VPSDE(), lambda z: z, rtol=TOLERANCE, atol=TOLERANCE
    )
    network = Score(model)

    def nll() -> Tensor:
        bits, _, nfe["score_sde"] = solve(network, x.clone())
        return (bits - 8) * dim * math.log(2)  # score_sde adds 8 bits for 256 grey levels

    return nll


def print_below(nfe: dict[str, int], difference: Tensor, dim: int) -> None:
    """Evaluations of each, and the difference of the last two."""
    counts = ", ".join(f"{name} {count}" for name, count in nfe.items())
    bits = difference.double() / (dim * math.log(2))
    print(f"  evaluations: {counts}; mean difference {float(bits.mean()):+.4f} bits/dim")


if __name__ == "__main__":
    main()
