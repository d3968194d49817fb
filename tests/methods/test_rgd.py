"""RGD's projection, truncation and set to keep."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_models import (
    PROCESS,
    budget,
    clouds,
    dsm_gradient,
    ignore_progress,
    input_and_target,
    recorded_gradients,
    trainer_of,
    weights,
)

from msgm_bench import Batch, Data, Examples, OptionError, UniformDequantization, UsageError
from msgm_bench.testing import check_method
from msgm_builtin.methods.gradients import restricted_gradient
from msgm_builtin.methods.rgd import RGD, truncated_loss

SMALL = {"items_per_group": 3}


def test_restricted_by_hand():
    """(1, 0) without what goes against (-1, 1) is (1/2, 1/2); the other way round it is (0, 1)."""
    g_f, g_r = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(restricted_gradient(g_f, g_r), torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(restricted_gradient(g_r, g_f), torch.tensor([0.0, 1.0]))


@given(
    st.floats(0.0, 2 * math.pi), st.floats(0.0, 2 * math.pi), st.floats(1e-3, 1e3), st.floats(0, 20)
)
@settings(max_examples=200)
def test_plane(first, second, length, weight):
    """In the plane the step is as written out by angles, and goes against neither gradient.

    With angle d between them and cos d < 0, |g_f'| = |g_f| |sin d|, at a right angle to g_r.
    """
    d = math.cos(first - second)
    g_f = length * torch.tensor([math.cos(first), math.sin(first)])
    g_r = torch.tensor([math.cos(second), math.sin(second)])
    actual = restricted_gradient(g_f, g_r), restricted_gradient(g_r, g_f)
    if d >= 0:
        torch.testing.assert_close(actual[0], g_f)
        torch.testing.assert_close(actual[1], g_r)
    else:
        sine = abs(math.sin(first - second))
        lengths = [float(g.double().norm()) for g in actual]
        assert lengths == pytest.approx([length * sine, sine], rel=1e-3, abs=1e-5 * (1 + length))
    step = (actual[0] + weight * actual[1]).double()
    for g in (g_f.double(), g_r.double()):
        slack = 1e-6 * float(g.norm()) * (length + weight)
        assert float(step @ g) >= -slack


@pytest.mark.parametrize("size", [10, 100_000])
def test_many_dimensions(size):
    """The step's product with both originals is not negative up to float32's rounding."""
    generator = torch.Generator().manual_seed(size)
    for mix in (-0.9, -0.1, 0.3):
        g_r = torch.randn(size, generator=generator)
        g_f = mix * g_r + 0.3 * torch.randn(size, generator=generator)
        step = (restricted_gradient(g_f, g_r) + 5.0 * restricted_gradient(g_r, g_f)).double()
        for g in (g_f.double(), g_r.double()):
            assert float(step @ g) >= -1e-6 * float(step.norm() * g.norm())


def test_zero_gradients_do_no_harm():
    """Beside a gradient of zero the other stays as it is; nothing is NaN."""
    g, zero = torch.tensor([1.0, -2.0]), torch.zeros(2)
    assert torch.equal(restricted_gradient(g, zero), g)
    assert torch.equal(restricted_gradient(zero, g), zero)


def batch_at(t, eps):
    """A batch of noise alone, at one time."""
    times = torch.full((len(eps),), t)
    return Batch(torch.zeros_like(eps), times, eps, eps, torch.zeros(len(eps)))


def test_truncation_is_by_pixel_in_the_units_of_x0():
    """min(sigma^2 (eps_hat - eps)^2/a^2, cut) a^2/sigma^2, and no slope past the cut."""
    t = 0.6
    _, sigma = PROCESS.marginal(torch.tensor(t))
    cut = 0.5
    gap = math.sqrt(cut) / float(sigma)  # error of eps at which x0_hat's squared error is cut
    eps_hat = torch.tensor([[0.5 * gap, 2.0 * gap], [-3.0 * gap, -0.9 * gap]], requires_grad=True)
    model = trainer_of(RGD.create(SMALL)).model
    model.eps = lambda x_t, t, condition: eps_hat
    loss = truncated_loss(model, batch_at(t, torch.zeros(2, 2)), torch.tensor(cut))
    loss.backward()
    expected = gap**2 * (0.25 + 1 + 1 + 0.81) / 4
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    inside = torch.tensor([[True, False], [False, True]])
    torch.testing.assert_close(eps_hat.grad, torch.where(inside, eps_hat.detach() / 2, 0.0))


@pytest.mark.parametrize(("low", "cut"), [(0.0, 0.025), (-1.0, 0.1)])
def test_the_cut_scales_with_the_range(low, cut):
    """0.1 on [-1, 1] is 0.025 on [0, 1]."""
    method = RGD.create({"grouping": "random", "items_per_group": 60})
    x = torch.arange(256).to(torch.uint8).reshape(64, 1, 2, 2)
    splits = {"retain": Examples(x, torch.zeros(64, dtype=torch.long))}
    trainer = trainer_of(method, splits)
    trainer.model.codec = UniformDequantization(256, low, 1.0)
    method.setup(trainer)
    assert float(method.cutoff) == pytest.approx(cut)


def test_update_is_the_formula():
    """Written-out gradients of both losses, projected on the originals, with lambda on one."""
    method = RGD.create(
        {"retain_weight": 2.0, "alpha": 1e6, "items_per_group": 4, "retain_items": "set"}
    )
    splits = clouds({"retain": 20})
    splits["forget"] = splits["retain"]  # what the one wants the other does not
    trainer = trainer_of(method, splits)
    method.setup(trainer)
    assert len(method.coreset) == 8
    g_f = -dsm_gradient(trainer, *input_and_target(trainer.batch("forget", 0)))
    g_r = dsm_gradient(trainer, *input_and_target(trainer.noised(method.coreset, 0, "set, part 0")))
    product = g_f @ g_r
    assert product < 0
    expected = g_f - product / (g_r @ g_r) * g_r + 2.0 * (g_r - product / (g_f @ g_f) * g_f)
    gradients = recorded_gradients(trainer)
    method.update(trainer, 0)
    torch.testing.assert_close(gradients[0], expected, rtol=1e-4, atol=1e-5)


def test_g_r_averages_over_the_whole_set():
    """Parts of 8, 8 and 4 items count by their size; batch takes 8 of 20 at random."""
    method = RGD.create({"items_per_group": 10})
    trainer = trainer_of(method)
    method.setup(trainer)
    assert len(method.coreset) == 20
    expected = torch.zeros(6, dtype=torch.float64)
    for part, (first, count) in enumerate(((0, 8), (8, 8), (16, 4))):
        items = method.coreset[slice(first, first + count)]
        batch = trainer.noised(items, 3, f"set, part {part}")
        expected += count / 20 * dsm_gradient(trainer, *input_and_target(batch))
    torch.testing.assert_close(
        method.retain_gradient(trainer, 3)[1].double(), expected, rtol=1e-4, atol=1e-5
    )
    recorded = []
    trainer.noised_batches.noised = recording(trainer.noised_batches.noised, recorded)
    batchwise = RGD.create({"items_per_group": 10, "retain_items": "batch"})
    batchwise.setup(trainer)
    recorded.clear()
    batchwise.retain_gradient(trainer, 0)
    batchwise.retain_gradient(trainer, 1)
    assert [len(items) for items in recorded] == [8, 8]
    assert not torch.equal(recorded[0].x, recorded[1].x)
    assert all(len(items.x.unique(dim=0)) == 8 for items in recorded)


def recording(noised, recorded):
    """``noised`` that remembers the items."""

    def wrapper(items, *stream, **options):
        recorded.append(items)
        return noised(items, *stream, **options)

    return wrapper


def test_the_set_holds_so_many_of_each_class():
    """Five of each class of D_g, none twice, the same again on resume, others for another seed."""
    x = torch.arange(60.0)[:, None].repeat(1, 2)
    items = Examples(x, torch.arange(60) % 3)
    chosen = []
    for seed in (0, 0, 1):
        method = RGD.create({"items_per_group": 5})
        trainer = trainer_of(method, {"retain": items})
        trainer.seed = seed
        method.setup(trainer)
        assert torch.bincount(method.coreset.y).tolist() == [5, 5, 5]
        assert len(method.coreset.x[:, 0].unique()) == 15
        chosen.append(method.coreset.x)
    assert torch.equal(chosen[0], chosen[1])
    assert not torch.equal(chosen[0], chosen[2])


def test_small_groups_are_taken_whole():
    """A class with fewer items than asked for gives all that it has."""
    items = Examples(torch.randn(12, 2), torch.tensor([0] * 10 + [1] * 2))
    method = RGD.create({"items_per_group": 4})
    method.setup(trainer_of(method, {"retain": items}))
    assert torch.bincount(method.coreset.y).tolist() == [4, 2]


def test_k_means_finds_what_labels_would():
    """Without a label, far clusters of unequal size give equally many items each."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([40, 10, 6])
    hidden = torch.arange(3).repeat_interleave(sizes)
    x = torch.randn(56, 2, generator=generator) * 0.1 + 10.0 * hidden[:, None]
    attributes = torch.zeros(56, 4, dtype=torch.bool)
    method = RGD.create({"items_per_group": 5, "n_clusters": 3})
    method.setup(trainer_of(method, {"retain": Examples(x, attributes)}))
    actual = (method.coreset.x[:, 0] / 10).round().long()
    assert torch.bincount(actual).tolist() == [5, 5, 5]


def test_random_is_not_diverse():
    """grouping=random takes n_clusters x items_per_group items, whatever they are."""
    x = torch.arange(100.0)[:, None].repeat(1, 2)
    items = Examples(x, torch.tensor([0] * 98 + [1] * 2))
    method = RGD.create({"grouping": "random", "items_per_group": 3, "n_clusters": 4})
    method.setup(trainer_of(method, {"retain": items}))
    assert len(method.coreset.x.unique(dim=0)) == 12
    assert torch.bincount(method.coreset.y).max() > 9


def test_groups_that_cannot_be_are_refused():
    """Classes of items with attributes, and more clusters than items to keep: before training."""
    y = torch.zeros(9, 3, dtype=torch.bool)
    y[0, 2] = True
    items = Examples(torch.randn(9, 2), y)
    data = Data(items, items, ("hat", "bangs", "smile"))
    with pytest.raises(UsageError, match="grouping = class on items with several attributes"):
        RGD.create({"grouping": "class"}).check_data(data, (2,))
    with pytest.raises(UsageError, match="9 clusters of 8 items"):
        RGD.create({"n_clusters": 9}).check_data(data, (2,))
    RGD.create({"n_clusters": 8}).check_data(data, (2,))


def test_resumed_choices_are_the_same(tmp_path):
    """Two trainings of the same seed are equal to the bit, k-means included."""
    final_weights = []
    for name in ("a", "b"):
        method = RGD.create({"grouping": "kmeans", "n_clusters": 3, "items_per_group": 4})
        trainer = trainer_of(method)
        trainer.run(tmp_path / name, ignore_progress)
        final_weights.append(weights(trainer))
    assert torch.equal(*final_weights)


def test_defaults_are_the_released_scripts():
    """Lambda = 5, alpha = 0.1, 50 items a class, the whole set at every iteration."""
    c = RGD.create().options
    assert (c.retain_weight, c.alpha, c.items_per_group, c.retain_items) == (5.0, 0.1, 50, "set")


@pytest.mark.parametrize("preset", ["full", "paper"])
def test_published_budget(preset):
    """Steps, batch, learning rate and average of the released configuration, and no warm-up."""
    actual = budget("rgd", preset)
    assert (actual.steps, actual.batch_size, actual.learning_rate) == (782, 64, 1e-5)
    assert (actual.ema_decay, actual.max_grad_norm, actual.warmup_steps, actual.lr_schedule) == (
        0.0,
        1e9,
        0,
        "constant",
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [("alpha", 0), ("retain_weight", -1), ("items_per_group", 0), ("grouping", "labels")],
)
def test_bad_options_are_named(option, value):
    """An option out of range is refused by name."""
    with pytest.raises(OptionError, match=f"option '{option}' of rgd"):
        RGD.create({option: value})


@pytest.mark.parametrize(
    "options", [SMALL, {"grouping": "kmeans", "n_clusters": 3, "retain_items": "batch"}]
)
def test_conformance(options):
    """Forget sets differ, resume is exact, nothing leaks."""
    check_method(RGD, options)
