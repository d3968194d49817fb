"""Variance components of crossed runs: closed forms, simulations with known parts, bad designs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from msgm_bench.boards import Quantity
from msgm_bench.boards.variance import decompose, decompositions
from msgm_bench.errors import UsageError

UR = Quantity(metric="ur", split="samples")
PARTS = ("training", "unlearning", "training x unlearning", "sampling", "items")


def estimates(x):
    """Estimate by part."""
    return {part.name: part.estimate for part in decompose(np.asarray(x, dtype=float))}


def test_pure_effects_have_their_sample_variances():
    """Without a rest each part is the variance of its own effects, and the others are 0."""
    rng = np.random.default_rng(0)
    t, u, s = rng.normal(size=4), 2 * rng.normal(size=3), 3 * rng.normal(size=5)
    parts = estimates(t[:, None, None] + u[None, :, None] + s + 7)
    assert parts["training"] == pytest.approx(t.var(ddof=1))
    assert parts["unlearning"] == pytest.approx(u.var(ddof=1))
    assert parts["sampling"] == pytest.approx(s.var(ddof=1))
    assert parts["training x unlearning"] == pytest.approx(0, abs=1e-12)
    assert parts["items"] == pytest.approx(0, abs=1e-12)


def test_estimates_are_unbiased():
    """Over 2,000 simulated designs the mean of each estimate is the variance put in."""
    rng, variances = (
        np.random.default_rng(1),
        dict(zip(PARTS, (4.0, 1.0, 0.5, 2.0, 0.25), strict=True)),
    )
    shapes = dict(zip(PARTS, ((3, 1, 1), (1, 4, 1), (3, 4, 1), (1, 1, 3), (3, 4, 3)), strict=True))
    drawn = []
    for _ in range(2000):
        effects = (
            math.sqrt(variances[name]) * rng.normal(size=shape) for name, shape in shapes.items()
        )
        drawn.append(estimates(sum(effects)))
    for name, variance in variances.items():
        values = np.array([parts[name] for parts in drawn])
        assert abs(values.mean() - variance) < 4 * values.std(ddof=1) / math.sqrt(len(values))


def test_shares_of_items_have_binomial_variance():
    """Models that differ by nothing and draw 500 items each leave p (1 - p) / n to the items."""
    rng = np.random.default_rng(2)
    x = rng.binomial(500, 0.3, size=(1000, 3, 2, 3)) / 500
    items = np.array([estimates(one)["items"] for one in x])
    assert items.mean() == pytest.approx(0.3 * 0.7 / 500, rel=0.05)


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((3, 1, 1), {"training"}),
        ((1, 1, 3), {"sampling"}),
        ((3, 1, 3), {"training", "sampling", "items"}),
        ((3, 3, 1), {"training", "unlearning", "training x unlearning"}),
        ((1, 1, 1), set()),
    ],
)
def test_what_has_one_seed_is_not_estimated(shape, names):
    """A part is there if its seeds vary, and with one kind of seed it is the plain variance."""
    x = np.random.default_rng(3).normal(size=shape)
    parts = estimates(x)
    assert set(parts) == names
    if len(names) == 1:
        assert parts[names.pop()] == pytest.approx(x.var(ddof=1))


def test_a_negative_estimate_counts_as_zero():
    """Means of trainings that agree better than the rest allows: (0 - 4) / 2 samplings."""
    parts = {part.name: part for part in decompose(np.array([[[1.0, -1.0]], [[-1.0, 1.0]]]))}
    assert parts["training"].estimate == pytest.approx(-2)
    assert parts["training"].variance == 0
    assert parts["items"].variance == pytest.approx(4)


@pytest.fixture
def crossed(make):
    """Two seeds of each kind, crossed; the value of a run is 50 plus 8, 4 and 1 a seed."""
    return [
        make("alpha", 0, 50.0 + 8 * t + 4 * u + s, seeds={"train": t, "unlearn": u, "sample": s})
        for t, u, s in itertools.product((0, 1), repeat=3)
    ]


def test_results_are_taken_by_their_seeds(crossed):
    """Whatever their order, and repeats count once: variances 8^2/2, 4^2/2, 1/2 of the effects."""
    [entry] = decompositions([*reversed(crossed), crossed[3]], UR)
    assert (entry.method, entry.unit, entry.mean) == ("alpha", "%", 56.5)
    assert entry.levels == {"train": 2, "unlearn": 2, "sample": 2}
    parts = {part.name: part.variance for part in entry.components}
    assert parts == pytest.approx(
        {"training": 32, "unlearning": 8, "training x unlearning": 0, "sampling": 0.5, "items": 0},
        abs=1e-9,
    )
    assert entry.total == pytest.approx(40.5)
    assert math.sqrt(entry.items) == pytest.approx(100 * math.sqrt(0.25 / 1000), rel=0.02)


def test_designs_that_are_not_crossed(crossed, make):
    """A run that misses is named with its seeds; so are one without a value, and one run alone."""
    with pytest.raises(UsageError, match="lacks 1 of 8 runs, such as seeds train 0, unlearn 1"):
        decompositions([r for r in crossed if r != crossed[2]], UR)
    with pytest.raises(UsageError, match="one run: nothing varies"):
        decompositions(crossed[:1], UR)
    with pytest.raises(UsageError, match="has no ur on samples: the solver diverged"):
        decompositions([*crossed, make("alpha", 5, None)], UR)
    with pytest.raises(UsageError, match="two different results"):
        decompositions([*crossed, make("alpha", 0, 3.0)], UR)
    with pytest.raises(UsageError, match="several tasks"):
        decompositions([*crossed, make("alpha", 0, dataset="other")], UR)


def test_the_command(crossed, tmp_path, write, bench):
    """A line a part within 80 columns, and the design in an error."""
    for result in crossed:
        place = tmp_path / "runs" / "-".join(map(str, result.spec.seeds.values()))
        place.mkdir(parents=True)
        (place / "result.json").write_text(result.to_json(), encoding="utf-8")
    code, out, err = bench("variance", tmp_path / "runs", "--metric", "ur")
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80
    assert "alpha: ur on samples" in out
    assert "79 %" in out
    assert "20 %" in out
    code, _, err = bench("variance", place, "--metric", "ur")
    assert code == 2
    assert "nothing varies" in err
