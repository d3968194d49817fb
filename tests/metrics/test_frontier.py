"""The best trade-off that any density could reach on the mixture (docs/mathematics.md, 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from msgm_bench import (
    Data,
    DataStats,
    GaussianMixture,
    ModelContext,
    Plugin,
    Row,
    mean_interval,
)
from msgm_builtin.backbones.vesde import VESDE
from msgm_builtin.datasets.digits import Digits
from msgm_builtin.datasets.gaussians import OFFSET, Gaussians, MixtureDensity
from msgm_builtin.judges.bayes import Bayes
from msgm_builtin.metrics.frontier import Frontier, FrontierGap
from msgm_builtin.tasks.likelihood import Likelihood

RETAIN, FORGET = (0, 2), (1,)
NATS_PER_UNIT = 2 * math.log(2)  # of bits/dim, for two dimensions
QUADRATURE = 1e-6  # nats; frontiers by grids of half-widths 9, 10 and 12 agree to 2e-8


def units(nats: float) -> float:
    """Nats to bits/dim + 8."""
    return nats / NATS_PER_UNIT + OFFSET


def nats(value: float) -> float:
    """Bits/dim + 8 to nats."""
    return (value - OFFSET) * NATS_PER_UNIT


@pytest.fixture(scope="module")
def density() -> MixtureDensity:
    """The paper's mixture."""
    return MixtureDensity()


@pytest.fixture(scope="module")
def frontier(density: MixtureDensity) -> Frontier:
    """Its frontier, by quadrature."""
    return Frontier.of(density, RETAIN, FORGET, half_width=10.0)


class Grid:
    """Quadrature on a grid of its own, coarser than and shifted against the metric's."""

    def __init__(self, density: MixtureDensity) -> None:
        axis = torch.linspace(-11.03, 11.01, 551, dtype=torch.float64)
        grid = torch.meshgrid(axis, axis, indexing="ij")
        self.x = torch.stack(grid, dim=-1).reshape(-1, 2)
        self.cell = float(axis[1] - axis[0]) ** 2
        self.p_g = density.log_prob(self.x, RETAIN).exp()
        self.p_f = density.log_prob(self.x, FORGET).exp()

    def mass(self, log_q: Tensor) -> float:
        """Integral of q."""
        return float(log_q.exp().sum() * self.cell)

    def nlls(self, log_q: Tensor) -> tuple[float, float]:
        """(NLL_g, NLL_f) of the density q, in nats."""
        retain, forget = (-(p * log_q).sum() * self.cell for p in (self.p_g, self.p_f))
        return float(retain), float(forget)


@pytest.fixture(scope="module")
def grid(density: MixtureDensity) -> Grid:
    """The tests' own quadrature."""
    return Grid(density)


def gap(frontier: Frontier, retain: float, forget: float) -> float:
    """How far (NLL_g, NLL_f) lies above the frontier, in nats."""
    return retain - frontier.lowest_retain(forget)[0]


def test_ratio_is_e_to_the_four(frontier: Frontier) -> None:
    """sup p_f/p_g = e^4, attained on the line x + y = 0."""
    assert 1 / frontier.lambdas[-1] == pytest.approx(math.exp(4), rel=1e-9)


def test_entropies_at_both_ends(frontier: Frontier) -> None:
    """H(p_g) is unseen's NLL_g, 10.542, and H(m) at lambda = 1/r is 10.5165 (bits/dim+8)."""
    assert units(frontier.entropies[0]) == pytest.approx(10.542, abs=5e-4)
    assert units(frontier.entropies[-1]) == pytest.approx(10.5165, abs=5e-5)


@pytest.mark.parametrize(
    ("forget", "retain", "digits"),
    [(13.48, 10.571, 3), (20.0, 10.69, 2), (26.95, 10.82, 2), (39.01, 11.04, 2)],
)
def test_lowest_retain_is_the_derived_table(
    frontier: Frontier, forget: float, retain: float, digits: int
) -> None:
    """The least NLL_g for four NLL_f, and the slope there is 1/r."""
    lowest, slope = frontier.lowest_retain(nats(forget))
    assert units(lowest) == pytest.approx(retain, abs=0.5 * 10**-digits)
    assert slope == frontier.lambdas[-1]


def test_the_papers_value_lies_below(frontier: Frontier) -> None:
    """No normalised density has (10.64, 39.01); the paper's unseen and standard are possible."""
    assert gap(frontier, nats(10.64), nats(39.01)) / NATS_PER_UNIT == pytest.approx(-0.40, abs=0.01)
    assert gap(frontier, nats(10.63), nats(11.59)) > 0
    assert gap(frontier, nats(10.91), nats(10.73)) > 0


@pytest.mark.parametrize(
    ("classes", "retain", "forget"), [(None, 10.617, 10.793), (RETAIN, 10.542, 11.724)]
)
def test_exact_standard_and_unseen(
    density: MixtureDensity,
    frontier: Frontier,
    grid: Grid,
    classes: Sequence[int] | None,
    retain: float,
    forget: float,
) -> None:
    """Both have the derived NLLs; unseen is on the frontier, standard above it."""
    log_q = density.log_prob(grid.x, classes)
    actual = grid.nlls(log_q)
    assert grid.mass(log_q) == pytest.approx(1.0, abs=QUADRATURE)
    assert [units(v) for v in actual] == pytest.approx([retain, forget], abs=5e-4)
    above = gap(frontier, *actual)
    if classes is None:
        assert above / NATS_PER_UNIT == pytest.approx(0.075, abs=5e-4)
    else:
        assert above == pytest.approx(0.0, abs=QUADRATURE)


@pytest.mark.parametrize("index", [1, 10, 20, 35])
def test_the_frontier_is_attained(frontier: Frontier, grid: Grid, index: int) -> None:
    """m_lambda is a density whose gap is 0: the bound is tight."""
    x = frontier.lambdas[index]
    m = (grid.p_g - x * grid.p_f) / (1 - x)
    log_q = m.log()
    assert grid.mass(log_q) == pytest.approx(1.0, abs=QUADRATURE)
    assert gap(frontier, *grid.nlls(log_q)) == pytest.approx(0.0, abs=QUADRATURE)
    assert frontier.lowest_retain(grid.nlls(log_q)[1])[1] == pytest.approx(x, abs=1e-3)


@pytest.mark.parametrize("seed", range(12))
def test_no_density_lies_below(frontier: Frontier, grid: Grid, seed: int) -> None:
    """Mixtures of Gaussians with random weights, means and covariances all have a gap >= 0."""
    generator = torch.Generator().manual_seed(seed)
    count = 1 + seed % 4
    root = torch.randn(count, 2, 2, generator=generator, dtype=torch.float64)
    law = GaussianMixture(
        torch.rand(count, generator=generator, dtype=torch.float64) + 0.05,
        2 * torch.randn(count, 2, generator=generator, dtype=torch.float64),
        0.3 * root @ root.mT + 0.3 * torch.eye(2, dtype=torch.float64),
    )
    assert gap(frontier, *grid.nlls(law.log_prob(grid.x))) >= -QUADRATURE


@pytest.mark.parametrize("variance", [0.6, 0.9, 1.0, 1.1, 1.5])
@pytest.mark.parametrize("distance", [2.0, 2.1, 2.5])
def test_no_near_optimum_lies_below(
    frontier: Frontier, grid: Grid, variance: float, distance: float
) -> None:
    """Two Gaussians on the diagonal, near the exact D_g and beyond it, have a gap >= 0."""
    law = GaussianMixture(
        torch.ones(2),
        torch.tensor([[-distance, -distance], [distance, distance]]),
        variance * torch.eye(2).expand(2, 2, 2),
    )
    above = gap(frontier, *grid.nlls(law.log_prob(grid.x)))
    assert above >= -QUADRATURE
    if (variance, distance) == (1.0, 2.0):
        assert above <= QUADRATURE


def test_the_frontier_is_convex_and_rises(frontier: Frontier) -> None:
    """More forgetting never costs less, and each further unit costs at least as much."""
    forgets = [nats(v) for v in (10.0, 11.0, 11.724, 12.0, 13.0, 13.48, 20.0, 40.0)]
    lowest, slopes = zip(*(frontier.lowest_retain(v) for v in forgets), strict=True)
    assert list(lowest) == sorted(lowest)
    assert list(slopes) == sorted(slopes)


@pytest.mark.parametrize("half_width", [9.0, 12.0])
def test_the_grid_does_not_matter(
    density: MixtureDensity, frontier: Frontier, half_width: float
) -> None:
    """Another grid gives the same frontier to the quadrature error that these tests allow."""
    other = Frontier.of(density, RETAIN, FORGET, half_width)
    assert other.lambdas == pytest.approx(frontier.lambdas, rel=1e-9)
    assert other.entropies == pytest.approx(frontier.entropies, abs=QUADRATURE)


# The metric -----------------------------------------------------------------------------------


def context(data: Data) -> ModelContext:
    """The mixture's held-out points around an untrained model; the metric reads no weights."""
    retain, forget = data.split(data.test, FORGET)

    def create(kind: str, name: str, options: object) -> Plugin:
        raise AssertionError(f"{kind} {name} {options}")

    return ModelContext(
        model=VESDE.create({"network": "mlp"}).build(DataStats.of(data)),
        data=data,
        targets=FORGET,
        retain=retain,
        forget=forget,
        judge=Bayes.create(),
        judge_id={"name": "bayes"},
        seed=0,
        device=torch.device("cpu"),
        create=create,
    )


def measured(q: MixtureDensity, classes: Sequence[int] | None, count: int) -> tuple[Row, Tensor]:
    """The metric's row for the exact NLLs of q, and those NLLs (retain first)."""
    model_context = context(Gaussians.create({"test_size": 60_000}).load())
    x = torch.cat([model_context.retain.x[:count], model_context.forget.x[:count]])
    values = -q.log_prob(x.double(), classes)
    task = Likelihood.create({"count": count})
    (row,) = FrontierGap.create().measure(model_context, task, {"nats": values})
    return row, values


def test_metric_of_unseen_covers_zero(density: MixtureDensity) -> None:
    """From 10,000 points a split, exact unseen has a gap whose interval covers 0."""
    row, _ = measured(density, RETAIN, 10_000)
    assert (row.metric, row.split, row.unit, row.direction) == (
        "frontier_gap",
        "retain",
        "bits/dim",
        "down",
    )
    assert row.n == 20_000
    assert row.low < 0 < row.high


def test_metric_of_standard_covers_its_gap(density: MixtureDensity, frontier: Frontier) -> None:
    """Exact standard's gap is 0.075 bits/dim, and the row is that of the sample's means."""
    row, values = measured(density, None, 10_000)
    assert row.low < 0.0747 < row.high
    assert row.low > 0
    retain, forget = (mean_interval(part.numpy()) for part in values.split(10_000))
    lowest, slope = frontier.lowest_retain(forget.value)
    assert row.value * NATS_PER_UNIT == pytest.approx(retain.value - lowest, abs=QUADRATURE)
    spread = math.hypot(retain.high - retain.value, slope * (forget.high - forget.value))
    assert (row.high - row.value) * NATS_PER_UNIT == pytest.approx(spread, abs=QUADRATURE)
    assert (row.value - row.low) * NATS_PER_UNIT == pytest.approx(spread, abs=QUADRATURE)


def test_metric_of_failed_integrations_is_null() -> None:
    """A single infinite NLL leaves no value, and the row says how many there were."""
    model_context = context(Gaussians.create({"test_size": 500}).load())
    values = torch.ones(len(model_context.retain) + len(model_context.forget))
    values[3] = math.inf
    (row,) = FrontierGap.create().measure(model_context, Likelihood.create(), {"nats": values})
    assert (row.value, row.low, row.high) == (None, None, None)
    assert row.reason == "1 integrations failed"


def test_metric_of_one_item_has_no_interval(density: MixtureDensity) -> None:
    """One point a split gives the gap, null ends, and the reason; two give an interval."""
    row, _ = measured(density, None, 1)
    assert math.isfinite(row.value)
    assert (row.low, row.high) == (None, None)
    assert row.reason == "no interval: n = 2 is too small for one"
    row, _ = measured(density, None, 2)
    assert row.low < row.value < row.high
    assert row.reason is None


def test_metric_skips_data_without_a_density() -> None:
    """Images have no exact density; the mixture has."""
    metric = FrontierGap.create()
    images, points = (
        context(d.load()) for d in (Digits.create(), Gaussians.create({"test_size": 500}))
    )
    reason = metric.skip(images, images.model)
    assert reason is not None
    assert "density" in reason
    assert metric.skip(points, points.model) is None


class Nested:
    """p_g = N(0, I) and p_f = N(0, I/2) in the plane: r = 2 at the origin."""

    def log_prob(self, x: Tensor, classes: Sequence[int] | None = None) -> Tensor:
        """Log density of class 0 (p_g) or 1 (p_f)."""
        assert classes is not None
        variance = 1.0 if tuple(classes) == (0,) else 0.5
        return -x.square().sum(1) / (2 * variance) - math.log(2 * math.pi * variance)


def test_another_density_with_known_numbers() -> None:
    """r = 2 and H(p_g) = log(2 pi e); far out the slope is 1/2 and the line H(2 p_g - p_f) / 2."""
    actual = Frontier.of(Nested(), (0,), (1,), 8.0)
    assert 1 / actual.lambdas[-1] == pytest.approx(2.0, rel=1e-9)
    assert actual.entropies[0] == pytest.approx(math.log(2 * math.pi * math.e), abs=QUADRATURE)
    lowest, slope = actual.lowest_retain(50.0)
    assert slope == pytest.approx(0.5, rel=1e-9)
    # In u = |x|^2/2, m = 2 p_g - p_f has density 2 e^-u - 2 e^-2u; H by quadrature in u.
    u = torch.linspace(0, 60, 600_001, dtype=torch.float64)[1:]
    m = 2 * torch.exp(-u) - 2 * torch.exp(-2 * u)
    entropy = float(torch.trapezoid(-m * torch.log(m / (2 * math.pi)), u))
    assert lowest == pytest.approx(0.5 * 50.0 + 0.5 * entropy, abs=1e-5)
