"""The ROC's area, its interval, the paired difference and the left end, against other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from msgm_bench import MsgmBenchError
from msgm_builtin.metrics.roc import (
    Placements,
    Z,
    auc_difference,
    auc_interval,
    exact_share,
    true_positives,
)


def scores(m, n, shift=0.7, seed=0, decimals=1):
    """Normal scores of m positive and n negative items, rounded so that many tie."""
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, m).round(decimals), rng.normal(0, 1, n).round(decimals)


def labelled(positive, negative):
    """Labels and scores as scikit-learn takes them."""
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    return labels, np.concatenate([positive, negative])


@pytest.mark.parametrize("decimals", [0, 1, 9])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (40, 7), (60, 150)])
def test_the_area_is_scikit_learns(m, n, decimals):
    """Ties count half, and scores of minus infinity are below all others and equal."""
    positive, negative = scores(m, n, decimals=decimals)
    assert Placements.of(positive, negative).auc == pytest.approx(
        metrics.roc_auc_score(*labelled(positive, negative))
    )
    positive[0], negative[-1] = -np.inf, -np.inf
    finite = labelled(*(np.maximum(part, -100) for part in (positive, negative)))
    assert Placements.of(positive, negative).auc == pytest.approx(metrics.roc_auc_score(*finite))


def test_placements_are_shares_of_pairs():
    """Each is the mean over the other group of 1 where it wins, 1/2 where it ties."""
    positive, negative = scores(12, 9, decimals=0)
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    placements = Placements.of(positive, negative)
    assert placements.positive == pytest.approx(wins.mean(axis=1))
    assert placements.negative == pytest.approx(wins.mean(axis=0))


def test_no_score_has_no_area():
    """A group without items is refused."""
    with pytest.raises(MsgmBenchError, match="a ROC of 3 and 0 scores"):
        Placements.of(np.ones(3), np.ones(0))


@pytest.mark.parametrize(("auc", "m", "n"), [(0.5, 30, 30), (0.93, 273, 89), (0.02, 5, 400)])
def test_the_ends_solve_the_score_equation(auc, m, n):
    """|AUC - theta| is z standard errors of Hanley and McNeil's variance at theta."""
    interval = auc_interval(auc, m, n)
    for theta in (interval.low, interval.high):
        q1, q2 = theta / (2 - theta), 2 * theta**2 / (1 + theta)
        k = 0.5 * (m + n) - 1
        variance = theta * (1 - theta) + k * (q1 - theta**2) + k * (q2 - theta**2)
        assert abs(auc - theta) == pytest.approx(Z * math.sqrt(variance / (m * n)), abs=1e-9)
    assert interval.low < auc < interval.high


def test_a_perfect_area_is_not_certain():
    """At 1 and at 0 the interval has a width, which shrinks with the items, and stays inside."""
    ends = [auc_interval(1.0, n, n) for n in (5, 50, 500)]
    assert [end.high for end in ends] == [1.0] * 3
    assert 0.4 < ends[0].low < ends[1].low < ends[2].low < 1
    mirrored = auc_interval(0.0, 50, 50)
    assert (mirrored.low, mirrored.high) == pytest.approx((0.0, 1 - ends[1].low))


def test_the_interval_covers_the_true_area():
    """Of 600 draws of 60 and 40 items, 92 to 98 % hold the true area, far from 1/2, too."""
    for shift in (0.0, 1.5):
        true = stats.norm.cdf(shift / math.sqrt(2))
        draws = [scores(60, 40, shift, seed, 9) for seed in range(600)]
        covered = [Placements.of(*draw).interval.contains(true) for draw in draws]
        assert 0.92 <= np.mean(covered) <= 0.98


def test_the_difference_is_delongs():
    """Value and standard error from the covariances of all pairs, as in the paper."""
    m, n = 25, 40
    (a, b), rng = scores(m, n, 1.0), np.random.default_rng(7)
    c, d = a + rng.normal(0, 0.8, m), b + rng.normal(0, 0.8, n)
    v10, v01 = [], []
    for positive, negative in ((a, b), (c, d)):
        wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
        v10.append(wins.mean(axis=1))
        v01.append(wins.mean(axis=0))
    S = np.cov(v10) / m + np.cov(v01) / n
    error = math.sqrt(S[0, 0] + S[1, 1] - 2 * S[0, 1])
    interval = auc_difference(Placements.of(a, b), Placements.of(c, d))
    assert interval.value == pytest.approx(v10[0].mean() - v10[1].mean())
    assert interval.half_width == pytest.approx(1.959964 * error)


def test_a_score_does_not_differ_from_itself():
    """Nothing but 0, and other numbers of items are refused."""
    a = Placements.of(*scores(10, 12))
    same = auc_difference(a, a)
    assert (same.low, same.value, same.high) == (0, 0, 0)
    with pytest.raises(MsgmBenchError, match="the same items"):
        auc_difference(a, Placements.of(*scores(10, 11)))


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_the_left_end_is_scikit_learns(decimals):
    """The largest true positive rate of a threshold whose false positive rate is at most 5 %."""
    positive, negative = scores(80, 70, decimals=decimals)
    false, true, _ = metrics.roc_curve(*labelled(positive, negative), drop_intermediate=False)
    expected = true[false <= 0.05].max()
    assert true_positives(positive, negative, 0.05) / 80 == pytest.approx(expected)


@pytest.mark.parametrize(("k", "n"), [(0, 9), (3, 20), (20, 20)])
def test_an_exact_share_has_the_tails_of_the_binomial(k, n):
    """At the ends, k or more and k or fewer have a chance of 2.5 % each."""
    interval = exact_share(k, n)
    assert interval.value == k / n
    if k:
        assert stats.binom.sf(k - 1, n, interval.low) == pytest.approx(0.025)
    if k < n:
        assert stats.binom.cdf(k, n, interval.high) == pytest.approx(0.025)
