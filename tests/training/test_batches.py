"""Batches: what they depend on, and that every item has its turn."""

from __future__ import annotations

import pytest
import torch

from msgm_bench import Examples, IdentityCodec, Labels, UniformDequantization, VariancePreserving
from msgm_bench.training import NoisedBatches


class Parts:
    """What a feed reads of a model."""

    process = VariancePreserving()

    def __init__(self, codec, classes=None):
        self.codec = codec
        self.conditioning = None if classes is None else Labels(classes)


def noised_batches(
    count=10, batch_size=4, seed=0, codec=None, classes=None, label_dropout_prob=0.1
):
    """Points that are their own number."""
    x = torch.arange(count, dtype=torch.float32)[:, None].repeat(1, 2)
    splits = {"retain": Examples(x, torch.arange(count)), "forget": Examples(-x, -x[:, 0])}
    model = Parts(codec or IdentityCodec(), classes)
    return NoisedBatches(splits, model, seed, batch_size, label_dropout_prob=label_dropout_prob)


def same(first, second):
    """Whether two batches are equal to the bit."""
    return all(
        torch.equal(getattr(first, name), getattr(second, name))
        for name in ("x0", "t", "eps", "x_t", "y")
    )


def test_a_batch_depends_on_its_numbers_only():
    """Any order of asking, any other feed with the same seed: the same batch."""
    first, second = noised_batches(), noised_batches()
    wanted = [first.batch("retain", step) for step in range(8)]
    for step in reversed(range(8)):
        second.batch("forget", step, draw=3)
        assert same(second.batch("retain", step), wanted[step])


@pytest.mark.parametrize(
    "other",
    [
        lambda: noised_batches(seed=1).batch("retain", 2),
        lambda: noised_batches().batch("retain", 3),
        lambda: noised_batches().batch("retain", 2, draw=1),
        lambda: noised_batches().batch("forget", 2),
    ],
)
def test_each_number_counts(other):
    """Seed, step, draw and split each give other noise."""
    assert not torch.equal(noised_batches().batch("retain", 2).eps, other().eps)


def test_draws_share_their_items():
    """Another draw of a batch is new noise on the same items."""
    first, second = noised_batches().batch("retain", 2), noised_batches().batch("retain", 2, draw=1)
    assert torch.equal(first.x0, second.x0)
    assert torch.equal(first.y, second.y)


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (12, 4), (10, 1), (3, 8), (7, 7)])
def test_epochs_see_every_item_once(count, batch_size):
    """Items come in permutations: after k epochs each was seen k times, in changing order."""
    source = noised_batches(count, batch_size)
    steps = 3 * count  # 3 batch_size epochs
    seen = torch.cat([source.batch("retain", step).y for step in range(steps)])
    epochs = seen.reshape(-1, count)
    assert torch.equal(epochs.sort(dim=1).values, torch.arange(count).expand(len(epochs), -1))
    assert len({tuple(epoch.tolist()) for epoch in epochs}) > 1


def test_a_batch_is_what_it_says():
    """x_t = a(t) x0 + sigma(t) eps, with labels of the items and times in range."""
    batch = noised_batches(count=100, batch_size=32).batch("retain", 0)
    a, sigma = VariancePreserving().marginal(batch.t)
    expected = a[:, None] * batch.x0 + sigma[:, None] * batch.eps
    torch.testing.assert_close(batch.x_t, expected.to(batch.x_t.dtype))
    assert torch.equal(batch.x0[:, 0].long(), batch.y)
    assert batch.t.min() >= VariancePreserving().t_min
    assert batch.t.max() <= VariancePreserving().T


def test_times_are_stratified():
    """Each of B equal strata of the time's distribution holds one time of the batch."""
    process = VariancePreserving()
    t = noised_batches(count=100, batch_size=50).batch("retain", 0).t.double()
    u = (t - process.t_min) / (process.T - process.t_min)
    strata = (u.sort().values * 50 - 1e-4).clamp(min=0).floor()
    assert (strata - torch.arange(50)).abs().max() <= 1
    assert strata.unique().numel() >= 49


def test_grey_levels_are_dequantised():
    """Each item lies in its bin, with another offset at each draw."""
    x = torch.arange(16, dtype=torch.uint8).reshape(16, 1, 1, 1)
    source = NoisedBatches(
        {"retain": Examples(x, torch.arange(16))}, Parts(UniformDequantization(16)), 0, 16
    )
    first, second = source.batch("retain", 0), source.batch("retain", 0, draw=1)
    assert torch.equal((first.x0.flatten() * 16).floor().long(), first.y)
    assert not torch.equal(first.x0, second.x0)


# Conditions -------------------------------------------------------------------------------


def test_only_conditional_models_are_told_a_class():
    """Batches of both kinds of models are equal to the bit, but for the condition."""
    plain, conditional = (
        noised_batches().batch("retain", 2),
        noised_batches(classes=10).batch("retain", 2),
    )
    assert same(plain, conditional)
    assert plain.condition is None
    assert conditional.condition.dtype == torch.int64


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 1.0])
def test_labels_are_dropped_at_the_rate(rate):
    """A condition is the label or the null class, this one at the rate within 4 errors."""
    source = noised_batches(count=1000, batch_size=500, classes=1000, label_dropout_prob=rate)
    batches = [source.batch("retain", step) for step in range(20)]
    condition = torch.cat([batch.condition for batch in batches])
    y = torch.cat([batch.y for batch in batches])
    null = condition == 1000
    assert torch.equal(condition[~null], y[~null])
    n = len(condition)
    assert abs(float(null.double().mean()) - rate) <= 4 * (rate * (1 - rate) / n) ** 0.5


def test_what_is_dropped_depends_on_the_batch_only():
    """The same numbers drop the same labels; another step, draw or seed drops others."""

    def dropped(step=3, draw=0, seed=0):
        source = noised_batches(
            count=400, batch_size=400, seed=seed, classes=400, label_dropout_prob=0.5
        )
        batch = source.batch("retain", step, draw)
        return torch.zeros(400).index_fill(0, batch.y[batch.condition == 400], 1.0)

    assert torch.equal(dropped(), dropped())
    for other in (dropped(step=4), dropped(draw=1), dropped(seed=1)):
        assert not torch.equal(dropped(), other)
