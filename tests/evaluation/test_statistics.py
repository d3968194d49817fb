"""Statistics against SciPy, against hand-computed values and against simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from msgm_bench.evaluation.statistics import (
    Interval,
    UndefinedError,
    bootstrap,
    mean_interval,
    median_interval,
    paired_difference,
    rogan_gladen,
    rogan_gladen_interval,
    seeds_interval,
    wilson,
)

numbers = st.floats(-1e6, 1e6)
shares = st.floats(0, 1)


@st.composite
def counts(draw):
    """A count and the number of items."""
    n = draw(st.integers(1, 20_000))
    return draw(st.integers(0, n)), n


@given(counts(), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_wilson_is_scipys(count, confidence):
    """The interval equals that of scipy.stats.binomtest and holds the estimate within [0, 1]."""
    k, n = count
    ours = wilson(k, n, confidence)
    theirs = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert ours.value == k / n
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


@given(counts())
def test_wilson_rises_with_the_count(count):
    """One success more moves both ends up, or leaves them at a boundary."""
    k, n = count
    if k < n:
        below, above = wilson(k, n), wilson(k + 1, n)
        assert below.low <= above.low
        assert below.high <= above.high


def test_wilson_at_ten_percent_of_ten_thousand_is_0_6_points():
    """The width that PEERS.md quotes for a rate near 10 % of 10,000 items."""
    interval = wilson(1000, 10_000).scaled(100)
    assert interval.value == pytest.approx(10)
    assert interval.half_width == pytest.approx(0.588, abs=1e-3)


@pytest.mark.parametrize(("k", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_errors(k, n):
    """A count outside 0..n is refused with what is allowed."""
    with pytest.raises(UndefinedError, match="allowed"):
        wilson(k, n)


@given(shares, st.floats(0.51, 1), st.floats(0.51, 1))
def test_rogan_gladen_inverts_a_judge(rate, sensitivity, specificity):
    """Sending a true rate through an imperfect judge and back gives the true rate."""
    seen = rate * sensitivity + (1 - rate) * (1 - specificity)
    assert rogan_gladen(min(seen, 1.0), sensitivity, specificity) == pytest.approx(rate, abs=1e-9)


def test_rogan_gladen_is_clamped():
    """A rate below the judge's false-positive floor is no negative rate."""
    assert rogan_gladen(0.01, 0.9, 0.95) == 0.0
    assert rogan_gladen(0.99, 0.9, 0.95) == 1.0


@pytest.mark.parametrize("judge", [(0.5, 0.5), (0.2, 0.7)])
def test_a_judge_of_chance_has_no_inverse(judge):
    """Sensitivity and specificity that sum to one or less are refused."""
    with pytest.raises(UndefinedError, match="no better than chance"):
        rogan_gladen(0.3, *judge)


def test_rates_outside_0_1_are_errors():
    """Percent in the place of a share is refused by name."""
    with pytest.raises(UndefinedError, match="rate is 12"):
        rogan_gladen(12, 0.9, 0.9)


def test_rogan_gladen_interval_by_hand():
    """Lang and Reiczigel's formula written out for 20 of 100, Se 45/50, Sp 76/80 at z = 2."""
    confidence = 2 * stats.norm.cdf(2.0) - 1
    p, se, sp = 22 / 104, 46 / 52, 77 / 82
    j = se + sp - 1
    rate = (p + sp - 1) / j
    v = (p * (1 - p) / 104, se * (1 - se) / 52, sp * (1 - sp) / 82)
    shift = 8 * (rate * v[1] - (1 - rate) * v[2])
    spread = 2 * math.sqrt(v[0] + rate**2 * v[1] + (1 - rate) ** 2 * v[2]) / j
    ours = rogan_gladen_interval((20, 100), (45, 50), (76, 80), confidence)
    assert ours.value == pytest.approx((0.2 + 0.95 - 1) / 0.85)
    assert ours.low == pytest.approx(rate + shift - spread)
    assert ours.high == pytest.approx(rate + shift + spread)


@given(counts(), st.integers(30, 2000), st.integers(30, 2000), st.floats(0.7, 1), st.floats(0.7, 1))
def test_rogan_gladen_interval_holds_the_estimate(count, n_se, n_sp, se, sp):
    """The ends lie in [0, 1] and on both sides of the estimate."""
    k, n = count
    found = rogan_gladen_interval((k, n), (round(se * n_se), n_se), (round(sp * n_sp), n_sp))
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize("rate", [0.02, 0.2])
def test_rogan_gladen_interval_covers(rate):
    """Over 2,000 simulated studies at least 93 % of the intervals hold the true rate."""
    rng, se, sp, n, m, runs = np.random.default_rng(0), 0.95, 0.98, 2000, 300, 2000
    seen = rng.binomial(n, rate * se + (1 - rate) * (1 - sp), runs)
    hits, rejects = rng.binomial(m, se, runs), rng.binomial(m, sp, runs)
    held = [
        rogan_gladen_interval((int(k), n), (int(h), m), (int(r), m)).contains(rate)
        for k, h, r in zip(seen, hits, rejects, strict=True)
    ]
    assert np.mean(held) >= 0.93


def test_wilson_covers():
    """Over 4,000 simulated rates of 3 % the mean coverage is near 95 %."""
    seen = np.random.default_rng(1).binomial(500, 0.03, 4000)
    held = [wilson(int(k), 500).contains(0.03) for k in seen]
    assert 0.93 <= np.mean(held) <= 0.975


@given(st.lists(numbers, min_size=2, max_size=30))
def test_mean_interval_is_scipys(values):
    """The interval equals that of scipy.stats.t and holds the mean."""
    ours = mean_interval(values)
    assert ours.low <= ours.value <= ours.high
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    if error > 0:
        theirs = stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
        assert (ours.low, ours.high) == pytest.approx(theirs, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("bad", [[1.0, math.inf], [math.nan]])
def test_mean_of_what_is_not_finite_is_an_error(bad):
    """An infinite item has no mean, and the error points to the median."""
    with pytest.raises(UndefinedError, match="median_interval"):
        mean_interval(bad)


@pytest.mark.parametrize("function", [mean_interval, median_interval, seeds_interval])
def test_nothing_has_no_statistic(function):
    """An empty list is an error, not a NaN."""
    with pytest.raises(UndefinedError, match="no value"):
        function([])


def test_one_seed_bounds_nothing():
    """A single run has a mean and no interval, which a result stores as null."""
    found = seeds_interval([3.5])
    assert found.value == 3.5
    assert not found.bounded
    assert found.ends == (None, None)


def test_seeds_interval_covers():
    """Student's interval over three normal seeds holds the truth in 95 % of 4,000 boards."""
    x = np.random.default_rng(2).normal(1.0, 2.0, (4000, 3))
    held = [seeds_interval(row).contains(1.0) for row in x]
    assert 0.94 <= np.mean(held) <= 0.96


def test_median_interval_by_hand():
    """With ten values the 95 % interval runs from the second to the ninth (coverage 97.9 %)."""
    assert median_interval([float(v) for v in range(1, 11)]) == Interval(5.5, 2.0, 9.0)


def test_median_counts_infinities_as_large():
    """Infinite items push the median up and do not spoil it while they are few."""
    few = median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, math.inf])
    assert few == Interval(4.0, 1.0, math.inf)
    many = median_interval([1.0] + [math.inf] * 6)
    assert many.value == math.inf
    assert many.ends == (1.0, None)


def test_median_of_few_bounds_nothing():
    """Five values cannot bound a median at 95 %, six can."""
    assert not median_interval([1.0, 2.0, 3.0, 4.0, 5.0]).bounded
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).ends == (1.0, 6.0)


@pytest.mark.parametrize("bad", [[1.0, math.nan], [-math.inf, math.inf]])
def test_median_without_a_middle_is_an_error(bad):
    """NaN, or a middle between both infinities, is refused."""
    with pytest.raises(UndefinedError):
        median_interval(bad)


@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.inf), min_size=1, max_size=40))
def test_median_interval_holds_the_median(values):
    """The ends are on both sides of numpy's median, infinities included."""
    found = median_interval(values)
    assert found.low <= found.value <= found.high
    if math.isfinite(found.value):
        assert found.value == pytest.approx(float(np.median(values)))


def test_median_interval_covers():
    """Over 3,000 skewed samples of 25 the coverage is at least the nominal 95 %."""
    x = np.random.default_rng(3).exponential(1.0, (3000, 25))
    held = [median_interval(row).contains(math.log(2)) for row in x]
    assert np.mean(held) >= 0.945


def test_bootstrap_agrees_with_the_normal_interval():
    """The percentile interval of a mean is near mean ± 1.96 standard errors, and repeatable."""
    x = np.random.default_rng(4).normal(0, 1, 2000)
    found = bootstrap(x, lambda v: float(v.mean()), seed=5)
    error = x.std(ddof=1) / math.sqrt(x.size)
    assert found.value == pytest.approx(x.mean())
    assert found.half_width == pytest.approx(1.96 * error, rel=0.08)
    assert found == bootstrap(x, lambda v: float(v.mean()), seed=5)
    assert found != bootstrap(x, lambda v: float(v.mean()), seed=6)


def test_bootstrap_draws_whole_rows():
    """Items are rows: a pair stays a pair in every draw."""
    x = np.column_stack([np.arange(20.0), np.arange(20.0) + 1])
    found = bootstrap(x, lambda v: float((v[:, 1] - v[:, 0]).mean()), seed=0, resamples=50)
    assert found == Interval(1.0, 1.0, 1.0)


def test_bootstrap_of_an_infinite_statistic_is_an_error():
    """A statistic that is infinite on a draw has no percentile interval."""
    with pytest.raises(UndefinedError, match="not finite"):
        bootstrap([1.0, math.inf], lambda v: float(v.max()), seed=0, resamples=20)


@given(st.lists(st.tuples(numbers, numbers), min_size=3, max_size=20))
def test_paired_difference_is_scipys(pairs):
    """The interval is that of scipy.stats.ttest_rel, and zero outside it is its rejection."""
    a, b = np.array(pairs).T
    difference = a - b
    if difference.std(ddof=1) > 1e-6 * (1 + np.abs(difference).max()):
        test = stats.ttest_rel(a, b)
        theirs = test.confidence_interval(0.95)
        ours = paired_difference(a, b)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-7)
        if abs(test.pvalue - 0.05) > 1e-9:
            assert ours.contains(0.0) == (test.pvalue > 0.05)


def test_one_pair_bounds_nothing_and_none_is_an_error():
    """A comparison needs two pairs for an interval and one for a value."""
    assert not paired_difference([1.0], [3.0]).bounded
    assert paired_difference([1.0], [3.0]).value == -2.0
    with pytest.raises(UndefinedError, match="pair"):
        paired_difference([1.0, 2.0], [1.0])
