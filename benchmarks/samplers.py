"""Network evaluations that each sampler needs where the score is exact.

For every sampler and process: the least budget at which draws of the mixture ``gaussians`` cannot
be told from exact ones, by their energy distance to a large exact set. A budget suffices where the
median distance of several sets of draws lies inside the 95 % band of exact sets of that size, at
this budget and at the next.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from msgm_bench import DataStats, EpsFn, IdentityCodec, Model, Noise, Sampler, UsageError
from msgm_bench.registry import registry
from msgm_builtin.datasets.gaussians import MixtureDensity

BUDGETS = (4, 6, 8, 12, 16, 24, 32, 50, 100, 200, 500, 1000)
BACKBONES = ("vesde", "vpsde", "subvpsde", "ddpm")
SAMPLERS = (
    *("em", "pc", "ancestral", "ddim", "heun"),
    *("deis", "unipc", "dpmpp_2m", "dpmpp_2m_sde", "sa"),
)
SIZE, SETS, EXACT_SETS, REFERENCE = 2_000, 9, 200, 8_000
LEVEL = 0.95


class Exact(nn.Module):
    """The exact eps_hat."""

    def __init__(self, eps: EpsFn) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """eps_hat."""
        return self.eps(x_t, t)


class EnergyDistance:
    """2 E|X - R| - E|X - X'| of a set X to a fixed exact set R, up to R's own constant."""

    def __init__(self) -> None:
        self.mixture = MixtureDensity().mixture
        self.generator = torch.Generator().manual_seed(1)
        self.reference = self.exact(REFERENCE)
        exact = torch.tensor([self(self.exact(SIZE)) for _ in range(EXACT_SETS)])
        self.band = float(exact.quantile(LEVEL))

    def exact(self, n: int) -> Tensor:
        """Exact draws ``[n, 2]``."""
        return self.mixture.sample(n, self.generator)[0].float()

    def __call__(self, x: Tensor) -> float:
        """The distance of ``x [n, 2]``."""
        return float(2 * torch.cdist(x, self.reference).mean() - torch.cdist(x, x).mean())

    def inside(self, x: Tensor) -> bool:
        """Whether the median distance of the sets in ``x`` lies in the band of exact sets."""
        distances = torch.tensor([self(part) for part in x.split(SIZE)])
        return bool(distances.median() <= self.band)


def models() -> Iterator[tuple[str, Model]]:
    """A model with the exact score for each backbone's process."""
    data = registry().create("datasets", "gaussians", {"train_size": 2_000}).load()
    for name in BACKBONES:
        process = registry().create("backbones", name).process(DataStats.of(data))
        eps = MixtureDensity().eps(process)
        yield name, Model(Exact(eps), process, IdentityCodec(), (2,)).eval()


def least_budget(name: str, model: Model, distance: EnergyDistance) -> str:
    """The least budget that suffices and whose successor does; a dash where none does."""
    inside = []
    for nfe in BUDGETS:
        sampler: Sampler = registry().create("samplers", name, {"nfe": nfe})
        try:
            sampler.check(model)
        except UsageError:
            inside.append(False)
            continue
        x = sampler.sample(model, Noise(0, 0, SETS * SIZE)).x
        inside.append(bool(torch.isfinite(x).all()) and distance.inside(x))
        if inside[-2:] == [True, True]:
            break
    for nfe, (this, following) in zip(BUDGETS, pairwise(inside), strict=False):
        if this and following:
            return str(nfe)
    return f"> {BUDGETS[-2]}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samplers", nargs="*", default=SAMPLERS)
    names = parser.parse_args().samplers
    distance, rows = EnergyDistance(), list(models())
    print(f"{'':<14}" + "".join(f"{backbone:>10}" for backbone, _ in rows))
    for name in names:
        cells = (f"{least_budget(name, model, distance):>10}" for _, model in rows)
        print(f"{name:<14}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
