"""A Frechet distance: ours beside pytorch-fid's, the installed package or a checkout.

    python benchmarks/frechet_time.py --features 2048
    python benchmarks/frechet_time.py --pytorch-fid DIR

Both get the same features, and the line below says how far their distances are apart.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pairs import bench, parser
from released import pytorch_fid

from msgm_builtin.metrics.frechet import Moments, frechet_distance


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--features", type=int, default=512, help="features of an item")
    options.add_argument("--pytorch-fid", type=Path, metavar="DIR", help="a checkout")
    chosen = options.parse_args(arguments)
    meter = bench(chosen)
    F = 8 if meter.smoke else chosen.features
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(3 * F, F, generator=generator, dtype=torch.float64) for _ in range(2))
    theirs = pytorch_fid(chosen.pytorch_fid)
    a, b = Moments.of([x]), Moments.of([y * 1.1 + 0.1])
    arrays = [t.numpy() for t in (a.mean, a.covariance, b.mean, b.covariance)]

    def released() -> float:
        return float(theirs.calculate_frechet_distance(*arrays))

    meter.header("Frechet distance")
    meter.row(f"{F} features: ours / pytorch-fid", lambda: frechet_distance(a, b), released)
    ours, other = frechet_distance(a, b), released()
    print(f"  {ours:.9g} and {other:.9g}, relative difference {abs(ours / other - 1):.1e}")


if __name__ == "__main__":
    main()
