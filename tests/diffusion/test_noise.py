from __future__ import annotations

import pytest
import torch

from msgm_bench.diffusion import BLOCK, Noise, derive_seed
from msgm_bench.errors import OptionError

DRAWS = ["normal", "uniform", "rademacher"]


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("cut", [1, 100, BLOCK, BLOCK + 7])
def test_draws_do_not_depend_on_the_batch_split(draw: str, cut: int) -> None:
    """Two batches that meet anywhere give the draws of one batch, at every draw."""
    whole, left = Noise(7, 3, 600), Noise(7, 3, cut)
    right = Noise(7, 3 + cut, 600 - cut)
    for shape in [(2,), (), (1, 3)]:
        parts = [getattr(noise, draw)(shape) for noise in (left, right)]
        torch.testing.assert_close(getattr(whole, draw)(shape), torch.cat(parts), rtol=0, atol=0)


def test_prefixes_are_stable() -> None:
    """Asking for more items does not change the first ones."""
    short, many = Noise(1, 0, 10), Noise(1, 0, 1000)
    assert torch.equal(short.normal((5,)), many.normal((5,))[:10])
    assert torch.equal(short.uniform((5,)), many.uniform((5,))[:10])


def test_draws_have_their_laws() -> None:
    """Mean and second moment lie within 4 standard errors, and supports are right."""
    n = 40_000
    noise = Noise(0, 0, n)
    z, u, r = noise.normal(()), noise.uniform(()), noise.rademacher(())
    assert abs(z.mean()) < 4 / n**0.5
    assert abs(z.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs(u.mean() - 0.5) < 4 * (1 / 12 / n) ** 0.5
    assert u.min() >= 0
    assert u.max() < 1
    assert set(r.unique().tolist()) == {-1.0, 1.0}
    assert abs(r.mean()) < 4 / n**0.5


def test_seeds_and_items_give_different_draws() -> None:
    """Another seed, another item or another draw is another number."""
    noise = Noise(0, 0, 2 * BLOCK)
    first, second = noise.normal(()), noise.normal(())
    assert not torch.equal(first, second)
    assert not torch.equal(first[:BLOCK], first[BLOCK:])
    assert not torch.equal(first, Noise(1, 0, 2 * BLOCK).normal(()))


def test_derive_seed_is_stable_and_injective_on_types() -> None:
    """The hash is pinned, fits in 63 bits and tells parts, types and their borders apart."""
    assert derive_seed("sampling", 3) == 2061471154621856898
    groups = [("a", "b"), ("ab",), ("b", "a"), (1,), ("1",), (1, 1), (11,), (-1,), ()]
    seeds = [derive_seed(*parts) for parts in groups]
    assert len(set(seeds)) == len(groups)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_dtype_is_the_one_asked_for() -> None:
    """Every draw has the stream's dtype."""
    noise = Noise(0, 0, 3, dtype=torch.float64)
    assert {getattr(noise, draw)((2,)).dtype for draw in DRAWS} == {torch.float64}


@pytest.mark.parametrize(("start", "count"), [(-1, 1), (0, 0)])
def test_an_empty_or_negative_range_is_refused(start: int, count: int) -> None:
    """A range without items says what is allowed."""
    with pytest.raises(OptionError, match="count >= 1"):
        Noise(0, start, count)
