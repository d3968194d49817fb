"""Power of the paired t test against tables, an independent distribution and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from msgm_bench.boards.power import (
    WANTED,
    PairedSpread,
    detectable_effect,
    power,
    sd_factors,
    seeds_needed,
)


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_tabulated_sample_sizes(effect, seeds):
    """Cohen's small, medium and large effects need the pairs that textbooks list (G*Power)."""
    assert seeds_needed(effect) == seeds


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
@pytest.mark.parametrize("effect", [0.0, 0.3, 1.0, 4.0])
def test_power_is_the_tail_of_a_noncentral_t(effect, seeds):
    """P[|Z + shift| > t chi / sqrt(df)], integrated over the density of chi."""
    df, shift = seeds - 1, effect * math.sqrt(seeds)
    t = stats.t.ppf(0.975, df)

    def integrand(chi):
        limit = t * chi / math.sqrt(df)
        tails = stats.norm.sf(limit - shift) + stats.norm.cdf(-limit - shift)
        return tails * stats.chi.pdf(chi, df)

    expected, _ = integrate.quad(integrand, 0, 20, points=[1, 3, 6], epsabs=1e-10)
    assert power(effect, seeds) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(("seeds", "sd", "n"), [(3, 0.01, 2000), (5, 0.0, 300), (4, 0.03, 100)])
def test_power_of_simulated_shares(seeds, sd, n):
    """The test rejects as often as the power says for shares of n items whose rate has seeds."""
    rng, repeats, p, q = np.random.default_rng(seeds), 20_000, 0.4, 0.47
    rates = np.array([p, q])[:, None, None] + sd * rng.normal(size=(2, repeats, seeds))
    shares = rng.binomial(n, rates) / n
    difference = shares[0] - shares[1]
    t = difference.mean(1) / difference.std(1, ddof=1) * math.sqrt(seeds)
    rejected = np.mean(np.abs(t) > stats.t.ppf(0.975, seeds - 1))
    items = (p * (1 - p) + q * (1 - q) - 2 * sd**2) / n  # E[r (1 - r)] = p (1 - p) - sd^2
    expected = power(abs(p - q) / math.sqrt(2 * sd**2 + items), seeds)
    assert 0.1 < expected < 0.95
    assert rejected == pytest.approx(expected, abs=4 * math.sqrt(0.25 / repeats))


@given(st.floats(0.1, 100))
def test_needed_seeds_are_the_fewest(effect):
    """One seed fewer has less than the wanted power."""
    seeds = seeds_needed(effect)
    assert power(effect, seeds) >= WANTED
    assert seeds == 2 or power(effect, seeds - 1) < WANTED


def test_an_effect_that_needs_too_many_seeds():
    """Beyond a thousand seeds there is no number."""
    assert seeds_needed(0.05) is None


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_the_detectable_effect_has_the_wanted_power(seeds):
    """It is the inverse of the power."""
    assert power(detectable_effect(seeds), seeds) == pytest.approx(WANTED, abs=1e-9)


@given(
    st.integers(2, 6),
    st.floats(0.1, 10),
    st.floats(0.01, 10),
    st.floats(0.01, 2),
    st.integers(10, 10_000),
)
def test_needed_items_are_the_fewest(seeds, difference, variance, share, n):
    """With them the variance falls as far as the power needs, with one fewer it does not."""
    spread = PairedSpread(seeds, difference, variance, share * variance, n)
    needed = spread.items_needed

    def power_with(items):
        of_items = min(1.0, share) * variance
        total = variance - of_items + of_items * n / items
        return power(difference / math.sqrt(total), seeds)

    rounding = 1e-9
    if math.isinf(needed):
        assert power_with(1e15) < WANTED + rounding
    else:
        assert power_with(needed) > WANTED - rounding
        assert needed == 1 or power_with(needed - 1) < WANTED + rounding


def test_no_item_helps_where_seeds_alone_hide_the_difference():
    """Seeds of sd 1 and a difference of 1: three seeds see 3.3 sds, whatever n."""
    spread = PairedSpread(seeds=3, difference=1.0, variance=1.5, items=0.5, n=1000)
    assert detectable_effect(3) > 3
    assert math.isinf(spread.items_needed)
    assert spread.item_share == pytest.approx(1 / 3)
    assert spread.seeds_needed == seeds_needed(1 / math.sqrt(1.5))


def test_what_cannot_be_planned():
    """Equal means need no finite number; without intervals nothing is known of items."""
    equal = PairedSpread(3, 0.0, 1.0, 0.5, 100)
    assert equal.seeds_needed is None
    assert math.isinf(equal.items_needed)
    assert PairedSpread(3, 1.0, 1.0, None, 100).items_needed is None
    constant = PairedSpread(3, 1.0, 0.0, 0.5, 100)
    assert (constant.seeds_needed, constant.items_needed) == (2, None)


def test_how_well_three_seeds_know_their_deviation():
    """Chi squared with two degrees of freedom is exponential: its quantiles are logarithms."""
    low, high = sd_factors(3)
    assert low == pytest.approx(math.sqrt(1 / -math.log(0.025)))
    assert high == pytest.approx(math.sqrt(1 / -math.log(0.975)))
