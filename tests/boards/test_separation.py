"""Pairs of a board: what its results say about seeds and items, and the command that prints it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from msgm_bench.boards import Quantity, collect, load
from msgm_bench.boards.separation import families, find_quantity, separations
from msgm_bench.errors import UsageError
from msgm_bench.evaluation.statistics import wilson

UR, RETAIN = Quantity(metric="ur", split="samples"), Quantity(metric="nll", split="retain")


@pytest.fixture
def drawn(tmp_path, make, write, definition):
    """A board whose shares are drawn from 1,000 items anew for each of four seeds."""
    rng, place = np.random.default_rng(1), tmp_path / "board"
    rates = {"base": 0.30, "ideal": 0.10, "alpha": 0.05, "beta": 0.055}
    results = [
        make(method, seed, rng.binomial(1000, rate) / 10)
        for method, rate in rates.items()
        for seed in range(4)
    ]
    write(place, results, definition)
    return place


def shares(place, method):
    """UR by seed, in per cent."""
    results = collect(load(place), place).results
    return np.array(
        [result.value("ur", "samples") for result in results if result.spec.method == method]
    )


def test_neighbours_of_the_ranking(drawn):
    """Difference and deviation are those of the paired seeds, the items' part is Wilson's."""
    chosen = separations(drawn)
    assert (chosen.label, chosen.unit, chosen.has_drawn_items) == ("UR", "%", True)
    order = [chosen.pairs[0].better, *(pair.worse for pair in chosen.pairs)]
    assert order[2:] == ["ideal", "base"]
    for pair in chosen.pairs:
        a, b = shares(drawn, pair.better), shares(drawn, pair.worse)
        assert pair.spread.difference == pytest.approx((a - b).mean())
        assert pair.spread.sd == pytest.approx((a - b).std(ddof=1))
        assert pair.is_separate == (stats.ttest_rel(a, b).pvalue < 0.05)
        errors = [
            100 * wilson(round(10 * value), 1000).half_width / stats.norm.ppf(0.975)
            for value in (*a, *b)
        ]
        assert pair.spread.items == pytest.approx(2 * np.mean(np.square(errors)))
        assert (pair.spread.seeds, pair.spread.n) == (4, 1000)


def test_against_one_method(drawn):
    """One method stands in every pair, the better one first."""
    pairs = [(pair.better, pair.worse) for pair in separations(drawn, against="ideal").pairs]
    assert sorted(pairs) == [("alpha", "ideal"), ("beta", "ideal"), ("ideal", "base")]
    with pytest.raises(UsageError, match=r"not ranked .did you mean 'beta'"):
        separations(drawn, against="beto")


def test_another_quantity(drawn):
    """Pairs are neighbours by the quantity; images of the dataset are no part of the variance."""
    chosen = separations(drawn, RETAIN)
    assert chosen.label == "nll, retain"
    assert not chosen.has_drawn_items
    assert all(pair.spread.items is None for pair in chosen.pairs)


def test_one_seed_says_nothing(tmp_path, make, write, definition):
    """Without two common seeds a pair has no spread."""
    write(tmp_path, [make("base", 0, 30.0), make("ideal", 0, 10.0)], definition)
    assert [pair.spread for pair in separations(tmp_path).pairs] == [None]


def test_too_few_methods(tmp_path, make, write, definition):
    """One ranked method has no neighbour."""
    write(tmp_path, [make("ideal", 0, 10.0)], definition)
    with pytest.raises(UsageError, match="1 methods are ranked"):
        separations(tmp_path)


def test_quantities_are_named_by_metric_and_split(make):
    """A metric alone is enough where it means one quantity; a wrong name suggests the right one."""
    results = [make()]
    assert find_quantity((), results, "ur", None, None).split == "samples"
    assert find_quantity((), results, "nll", "forget", None).protocol == "nll/ode@1"
    assert find_quantity([RETAIN], results, "nll", None, None) == RETAIN
    with pytest.raises(UsageError, match="means several quantities"):
        find_quantity((), results, "nll", None, None)
    with pytest.raises(UsageError, match=r"no result has url .did you mean 'ur'"):
        find_quantity((), results, "url", None, None)


def test_the_command(drawn, bench):
    """A line a pair within 80 columns, and how to read it."""
    code, out, err = bench("board", "power", drawn)
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80
    first = separations(drawn).pairs[0]
    assert f"{first.spread.sd:.3g}" in out
    assert "4 seeds of 1,000 items" in out
    code, out, err = bench("board", "power", drawn, "--metric", "nll", "--split", "retain")
    assert code == 0, err
    assert "Items of this split may be the same for all seeds" in out
    code, _, err = bench("board", "power", drawn, "--metric", "fid")
    assert code == 2
    assert "no result has fid" in err


def test_names_of_one_family_are_listed_as_one():
    """130 names help nobody; whoever asks for one of a family sees them all."""
    names = {"ur", "ur_at:heun:8", "ur_at:heun:16", "nll"}
    assert families("nol", names) == ["nll", "ur", "ur_at:..."]
    assert families("ur_at:hein:8", names) == ["ur_at:heun:16", "ur_at:heun:8"]
    assert families("other:8", names) == ["nll", "ur", "ur_at:..."]
