"""The difference of two shares of the same items: a published table, bounds, coverage."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from msgm_bench import MsgmBenchError
from msgm_builtin.metrics.paired_shares import paired_share_difference


def masks(r, s, both, neither):
    """Masks of r items in the first alone, s in the second alone."""
    parts = ((True, False, r), (False, True, s), (True, True, both), (False, False, neither))
    a, b = ([value for *pair, k in parts for value in [pair[i]] * k] for i in (0, 1))
    return torch.tensor(a), torch.tensor(b)


def test_the_difference_of_a_published_table():
    """1 against 7 discordant pairs of 21: (2 - 8)/23 with its standard error sqrt(0.015945)."""
    interval = paired_share_difference(*masks(1, 7, 1, 12))
    assert interval.value == pytest.approx(-6 / 21)
    assert (interval.low, interval.high) == pytest.approx((-0.50836, -0.01338), abs=2e-5)


@pytest.mark.parametrize(("r", "s", "rest"), [(0, 0, 50), (50, 0, 0), (0, 3, 0), (1, 0, 0)])
def test_a_difference_lies_in_its_interval(r, s, rest):
    """It has a width without a discordant pair, and stays within -1 and 1."""
    interval = paired_share_difference(*masks(r, s, rest, 0))
    assert -1 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.half_width > 0


def test_the_paired_interval_covers_the_true_difference():
    """Of 1,000 draws of 80 pairs, 93 to 98 % hold the difference 0.08 of discordant shares."""
    rng = np.random.default_rng(0)
    tables = rng.multinomial(80, [0.12, 0.04, 0.4, 0.44], size=1000)
    covered = [paired_share_difference(*masks(*table)).contains(0.08) for table in tables]
    assert 0.93 <= np.mean(covered) <= 0.98


def test_shares_of_other_items_are_refused():
    """Masks of one length, and not empty."""
    with pytest.raises(MsgmBenchError, match="shares of 3 and of 2 items"):
        paired_share_difference(torch.ones(3, dtype=torch.bool), torch.ones(2, dtype=torch.bool))
    with pytest.raises(MsgmBenchError, match="shares of 0"):
        paired_share_difference(*[torch.zeros(0, dtype=torch.bool)] * 2)
