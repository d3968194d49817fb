"""Error of the likelihood of trained models: exponential Adams nodes against dopri5 at 1e-7.

The reference has the exact trace in float64. Lines are mean and root mean square, over items, of
the difference to it in bits/dim: first of the solver alone, with the exact trace; then of solver
and probes together, as the task ``likelihood`` has them; last of dopri5 at 1e-5 with one probe.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from stored_runs import load
from torch import Tensor

from msgm_bench import Likelihood, Model, Noise, adams_nll, bits_per_dim, ode_nll

TIGHT = 1e-7
Solve = Callable[[Noise], Likelihood]


def items(run: Path, count: int) -> tuple[Model, Tensor]:
    """The model of a run, and held-out items in model space, dequantised."""
    model, data, _ = load(run)
    chosen = data.test.x[:: max(1, len(data.test) // count)][:count]
    u = Noise(1, 0, len(chosen)).uniform(model.shape) if model.codec.dequantised else None
    return model, model.codec.encode(chosen, u)


def reference(model: Model, x: Tensor) -> Tensor:
    """-log p in nats by dopri5 with the exact trace, all in float64."""
    double = copy.deepcopy(model)
    double.network.double()
    result = ode_nll(
        double.eps_fn, double.process, x.double(), Noise(0, 0, len(x)),
        divergence="exact", rtol=TIGHT, atol=TIGHT, max_nfe=100_000,
    )  # fmt: skip
    assert not result.failed.any(), "the reference failed"
    return result.nats


def line(name: str, solve: Solve, exact: Tensor, dim: int, sets: int) -> str:
    """Mean and rms of the error in bits/dim, over items and sets of probes."""
    results = [solve(Noise(100 + i, 0, len(exact))) for i in range(sets)]
    error = torch.stack([bits_per_dim(result.nats - exact, dim) for result in results])
    rms = error.square().mean().sqrt()
    spread = f"{error.std(0).mean():9.4f}" if sets > 1 else f"{'':>9}"
    return f"{name:<28}{results[0].nfe:>6}{error.mean():>+10.4f}{rms:>9.4f}{spread}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--items", type=int, default=48, help="held-out items")
    parser.add_argument("--nodes", type=int, nargs="+", default=[16, 24, 32, 40])
    parser.add_argument("--sets", type=int, default=8, help="sets of probes")
    c = parser.parse_args(arguments)
    for run in c.runs:
        model, x = items(run, c.items)
        exact = reference(model, x)
        print(f"{run.name}: {len(x)} items; bits/dim")
        print(f"{'':<28}{'nfe':>6}{'mean':>10}{'rms':>9}{'sd, probes':>11}")
        for name, solve, sets in solvers(model, x, c.nodes, c.sets):
            print(line(name, solve, exact, model.dim, sets), flush=True)


def solvers(
    model: Model, x: Tensor, nodes: Sequence[int], sets: int
) -> Iterator[tuple[str, Solve, int]]:
    """Name, solver and number of sets of probes of each line."""
    adams = partial(adams_nll, model.eps_fn, model.process, x)
    dopri5 = partial(ode_nll, model.eps_fn, model.process, x, rtol=1e-5, atol=1e-5)
    for n in nodes:
        yield f"adams {n}, exact trace", partial(adams, nodes=n), 1
    for probes, fresh in ((1, False), (1, True), (2, True), (4, True)):
        estimate = partial(adams, divergence="hutchinson", probes=probes, fresh_probes=fresh)
        yield f"adams 32, {probes} {'fresh' if fresh else 'fixed'} a node", estimate, sets
    yield "dopri5 1e-5, 1 probe", partial(dopri5, divergence="hutchinson"), 2


if __name__ == "__main__":
    main()
