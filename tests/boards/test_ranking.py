"""Ranks, ties, gates and bands on small cases worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from msgm_bench.boards import Gate, Quantity, rank, tidy
from msgm_bench.boards.board import Baseline
from msgm_bench.boards.ranking import baseline_violations, leads, rounding_std
from msgm_bench.errors import UsageError

UR, RETAIN, FORGET = (
    Quantity(metric="ur", split="samples"),
    Quantity(metric="nll", split="retain"),
    Quantity(metric="nll", split="forget"),
)


def gate(within=0.1, reference="ideal", split="retain"):
    """A gate on the NLL."""
    return Gate(reference=reference, limits=[{"metric": "nll", "split": split, "within": within}])


@pytest.fixture
def table(make):
    """``table({method: [ur, ...] or [(ur, retain), ...]})`` is a tidy frame over seeds."""

    def frame(numbers):
        results = []
        for method, values in numbers.items():
            for seed, value in enumerate(values):
                ur, retain = value if isinstance(value, tuple) else (value, 2.0)
                results.append(make(method, seed, ur, retain))
        return tidy(results, [UR, RETAIN, FORGET])

    return frame


def labels(ranked):
    """Method to the rank as shown."""
    return {s.method: s.label for s in ranked}


def test_clear_order(table):
    """Methods that differ by far more than their seeds do have ranks of their own."""
    frame = table({"a": [9, 9.1, 9.2], "b": [1, 1.1, 1.2], "c": [5, 5.2, 5.1]})
    assert labels(rank(frame, ["a", "b", "c"], UR)) == {"b": "1", "c": "2", "a": "3"}


def test_ties_share_the_rank_and_the_next_counts_on(table):
    """Two methods that cross from seed to seed are 1=, the third is 3."""
    frame = table({"a": [1.0, 2.0, 1.5], "b": [1.6, 1.4, 1.6], "c": [9.0, 9.1, 9.3]})
    found = rank(frame, ["a", "b", "c"], UR)
    assert labels(found) == {"a": "1=", "b": "1=", "c": "3"}
    assert [s.method for s in found] == ["a", "b", "c"]


def test_pairing_tells_apart_what_means_do_not(table):
    """A constant lead on noisy seeds separates, although the two spreads overlap."""
    frame = table({"a": [1.0, 5.0, 9.0], "b": [1.2, 5.21, 9.2]})
    assert labels(rank(frame, ["a", "b"], UR)) == {"a": "1", "b": "2"}


def test_a_method_is_compared_with_the_best_of_its_group(table):
    """A chain of small steps does not tie its ends: c is told from a, though not from b."""
    frame = table({"a": [1.0, 1.1, 0.9], "b": [1.3, 1.0, 1.2], "c": [1.6, 1.7, 1.45]})
    assert not leads(frame, "b", "c", UR, 1)
    assert labels(rank(frame, ["a", "b", "c"], UR)) == {"a": "1=", "b": "1=", "c": "3"}


def test_a_method_led_by_any_of_a_group_stands_below_it(table):
    """c cannot be told from a, who is noisy, but always trails b by one: it is not tied to b."""
    frame = table({"a": [0.0, 1.0, 2.0], "b": [1.5, 1.0, 1.5], "c": [2.51, 2.0, 2.49]})
    assert not leads(frame, "a", "c", UR, 1)
    ranked = rank(frame, ["a", "b", "c"], UR)
    assert labels(ranked) == {"a": "1=", "b": "1=", "c": "3"}
    assert ranked[2].notes == ("its seeds do not tell it from a of the rank above either",)


def test_rank_intervals_by_hand(table):
    """Three methods: t(2) at 1 - 0.05/4 is 6.21, and differences of 4.3 to 6.2 errors are open."""
    assert stats.t.ppf(1 - 0.05 / 4, 2) == pytest.approx(6.205, abs=1e-3)
    frame = table({"a": [0.0, 0.0, 0.0], "b": [0.5, 1.0, 0.9], "c": [9.0, 9.1, 9.2]})
    standing = {row.method: row for row in rank(frame, ["a", "b", "c"], UR)}
    # b - a: mean 0.8, s = 0.265, 5.24 errors: apart at 95 %, not corrected for two comparisons
    assert labels(standing.values()) == {"a": "1", "b": "2", "c": "3"}
    intervals = {method: row.interval for method, row in standing.items()}
    assert intervals == {"a": (1, 2), "b": (1, 2), "c": (3, 3)}


def test_equal_differences_of_shares_of_few_items_are_no_certainty(table):
    """19 against 21 of 64 items with both seeds: rounding alone makes r / sqrt(6), r = 100/64 %."""
    frame = table({"a": [100 * 19 / 64] * 2, "b": [100 * 21 / 64] * 2, "c": [90.0] * 2})
    assert set(frame.loc[frame["key"] == str(UR), "unit"]) == {"%"}
    few, many = (frame.assign(n=n) for n in (64, 64_000))
    assert rounding_std(few, "a", "b", UR) == pytest.approx(100 / 64 / math.sqrt(6))
    assert rounding_std(few, "a", "b", RETAIN) == 0.0
    margin = stats.t.ppf(0.975, 1) * rounding_std(few, "a", "b", UR) / math.sqrt(2)
    assert margin == pytest.approx(5.73, abs=0.01)  # above the difference of 3.125
    assert labels(rank(few, ["a", "b", "c"], UR)) == {"a": "1=", "b": "1=", "c": "3"}
    assert labels(rank(many, ["a", "b", "c"], UR)) == {"a": "1", "b": "2", "c": "3"}


def test_one_seed_has_no_rank_interval(make):
    """Two models tell nothing of the methods: ranks from items have no interval."""
    frame = tidy([make("a", 0, 1.0), make("b", 0, 9.0)], [UR])
    ranked = rank(frame, ["a", "b"], UR)
    assert labels(ranked) == {"a": "1", "b": "2"}
    assert [row.interval for row in ranked] == [None, None]


def test_unranked_methods_have_no_interval(table):
    """Only ranked methods count among the ranks of an interval."""
    frame = table({"ideal": [(10, 2.0)] * 2, "a": [(1, 2.0), (1, 2.0)], "wreck": [(0, 9.0)] * 2})
    ranked = rank(frame, ["ideal", "a", "wreck"], UR, gate())
    assert {row.method: row.interval for row in ranked} == {
        "a": (1, 1),
        "ideal": (2, 2),
        "wreck": None,
    }


def test_rank_intervals_hold_the_true_rank():
    """Of 120 simulated boards, 5 % at most leave out the true rank of the second of four."""
    rng, missed = np.random.default_rng(0), 0
    means = np.array([0.0, 1.0, 1.3, 5.0])[:, None]
    for values in means + rng.normal(size=(120, 4, 3)) * np.array([0.2, 0.5, 0.5, 1.0])[:, None]:
        ranked = {row.method: row for row in rank(frame_of(values), ["m0", "m1", "m2", "m3"], UR)}
        low, high = ranked["m1"].interval
        missed += not low <= 2 <= high
    assert missed <= stats.binom.ppf(0.999, 120, 0.05)


def test_a_noisy_method_below_says_what_it_cannot_tell(table):
    """A rank below another that its own seeds do not support carries a note."""
    frame = table({"a": [1.0, 1.1, 1.2], "b": [2.0, 2.1, 2.2], "c": [0.5, 2.0, 6.0]})
    found = rank(frame, ["a", "b", "c"], UR)
    assert labels(found) == {"a": "1", "b": "2=", "c": "2="}
    assert found[2].notes == ("its seeds do not tell it from a of the rank above either",)


def test_only_common_seeds_are_paired(make):
    """Without two common seeds nothing is told apart, however far the means lie."""
    results = [make("a", seed, 1.0) for seed in (0, 1)] + [make("b", s, 9.0) for s in (1, 2)]
    assert labels(rank(tidy(results, [UR]), ["a", "b"], UR)) == {"a": "1=", "b": "1="}


def test_higher_is_better_where_the_rows_say_so(make):
    """The direction comes from the rows: the NLL on the forget split ranks downwards."""
    results = [make(m, s, lost=v + s / 10) for m, v in (("a", 4), ("b", 8)) for s in range(3)]
    assert labels(rank(tidy(results, [FORGET]), ["a", "b"], FORGET)) == {"b": "1", "a": "2"}


def test_the_gate_puts_the_best_ratio_below(table):
    """A method that forgot everything stands below if it lost the retained data."""
    frame = table({
        "ideal": [(10, 2.00), (10.1, 2.02), (9.9, 1.98)],
        "wreck": [(0, 2.60), (0, 2.62), (0, 2.58)],
        "fair": [(5, 2.09), (5.1, 2.11), (5, 2.10)],
    })  # fmt: skip
    found = rank(frame, ["ideal", "wreck", "fair"], UR, gate())
    assert labels(found) == {"fair": "1", "ideal": "2", "wreck": "–"}
    assert found[-1].state == "gated"
    assert "nll on retain is 2.6 against 2 of ideal, 0.6 worse where 0.1" in found[-1].notes[0]


def test_the_limit_itself_passes_despite_binary_fractions(table):
    """A loss of exactly the limit passes: 10.64 - 10.54 is above 0.1 in binary."""
    assert 10.64 - 10.54 > 0.1
    frame = table({"ideal": [(10, 10.54)] * 2, "edge": [(5, 10.64)] * 2, "past": [(5, 10.65)] * 2})
    found = labels(rank(frame, ["ideal", "edge", "past"], UR, gate()))
    assert (found["edge"], found["past"]) == ("1", "–")


def test_better_than_the_reference_passes(table):
    """The gate looks one way: a gain in retain quality is no loss."""
    frame = table({"ideal": [(10, 3.0)] * 2, "gain": [(5, 1.0)] * 2})
    assert labels(rank(frame, ["ideal", "gain"], UR, gate()))["gain"] == "1"


def test_the_gate_follows_the_direction(make):
    """Where higher is better, less is the loss."""
    results = [
        make(m, s, ur, lost=v) for m, ur, v in (("ideal", 9, 4), ("low", 1, 3)) for s in (0, 1)
    ]
    frame = tidy(results, [UR, FORGET])
    found = rank(frame, ["ideal", "low"], UR, gate(within=0.5, split="forget"))
    assert labels(found) == {"ideal": "1", "low": "–"}


def test_without_the_reference_nobody_is_ranked(table):
    """A gate that cannot be evaluated lets nobody through."""
    found = rank(table({"a": [1, 2]}), ["ideal", "a"], UR, gate())
    assert labels(found) == {"a": "–", "ideal": "–"}
    assert "nothing of ideal" in found[0].notes[0]


@pytest.mark.parametrize("values", [[None, None, None], [0.1, None, 0.1]])
def test_failed_values_never_rank(table, values):
    """One failed seed is enough to stand below, even with the smallest other values."""
    found = rank(table({"a": values, "b": [5.0, 5.1, 5.2]}), ["a", "b"], UR)
    assert labels(found) == {"b": "1", "a": "–"}
    assert "the solver diverged" in found[1].notes[0]


def test_a_failed_retain_value_fails_the_gate(table):
    """Retain quality that could not be measured is not within any limit."""
    frame = table({"ideal": [(10, 2.0)] * 2, "a": [(1, 2.0), (1, None)]})
    found = rank(frame, ["ideal", "a"], UR, gate())
    assert labels(found) == {"ideal": "1", "a": "–"}


def test_gated_come_before_failed_and_missing(table):
    """Below the ranks: the gated, the failed, the missing."""
    frame = table({"ideal": [10.0, 10], "f": [None, None], "g": [(1, 9.0), (1, 9.0)]})
    found = rank(frame, ["none", "f", "g", "ideal"], UR, gate())
    assert [s.state for s in found] == ["ranked", "gated", "failed", "missing"]


def test_a_metric_without_direction_cannot_rank(make):
    """A row that says neither way is better is refused as a rank metric."""
    result = make("a", 0)
    row = result.metrics[0].model_copy(update={"direction": "none"})
    result = result.model_copy(update={"metrics": [row]})
    with pytest.raises(UsageError, match="cannot rank or gate"):
        rank(tidy([result], [UR]), ["a"], UR)


@pytest.mark.parametrize(
    ("values", "found"), [([30, 31], 0), ([10, 11], 1), ([None, 30], 1), ([], 1)]
)
def test_bands_of_the_baseline(table, values, found):
    """A mean within passes; outside, failed or missing is a miss."""
    bands = [{"metric": "ur", "split": "samples", "low": 20, "high": 40}]
    frame = table({"base": values, "other": [1.0]})
    assert len(baseline_violations(frame, Baseline(method="base", bands=bands))) == found


def frame_of(numbers):
    """The tidy frame of values by method ``m0, m1, ...`` and seed."""
    records = [
        {
            "method": f"m{i}",
            "seed": s,
            "key": str(UR),
            "value": v,
            "protocol": "p@1",
            "direction": "down",
            "unit": "nats",
            "n": 100,
        }
        for i, row in enumerate(numbers)
        for s, v in enumerate(row)
    ]
    return pd.DataFrame(records).assign(reason="")


values = st.lists(st.floats(0, 100), min_size=3, max_size=3)


@given(st.lists(values, min_size=1, max_size=5))
def test_any_ranking_is_sound(numbers):
    """All methods appear once, means rise, ranks count the methods above, ties agree with SciPy."""
    frame = frame_of(numbers)
    found = rank(frame, [f"m{i}" for i in range(len(numbers))], UR)
    mean = {f"m{i}": math.fsum(row) / 3 for i, row in enumerate(numbers)}
    assert sorted(s.method for s in found) == sorted(mean)
    for place, (above, below) in enumerate(itertools.pairwise(found), start=2):
        assert mean[above.method] <= mean[below.method] + 1e-9
        assert below.rank in (above.rank, place)
    for row in found:
        assert row.tied == (sum(s.rank == row.rank for s in found) > 1)
        assert row.interval is None or row.interval[0] <= row.rank <= row.interval[1]
        best = next(s for s in found if s.rank == row.rank)
        a, b = (numbers[int(s.method[1:])] for s in (best, row))
        spread = max(
            abs((x - y) - (mean[best.method] - mean[row.method])) for x, y in zip(a, b, strict=True)
        )
        if best is not row and spread > 1e-6:
            assert stats.ttest_rel(a, b).pvalue > 0.05 - 1e-9
