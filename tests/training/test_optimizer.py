"""Gradients as vectors, masks, inner loops, preparation, further networks, counted passes."""

from __future__ import annotations

import copy

import pytest
import torch
from nested import Nested, Sharing
from replay import Replay

from msgm_bench import DataStats, Examples, Training, dsm_loss
from msgm_bench.errors import PluginError
from msgm_bench.testing import ToyBackbone, check_method, toy_images
from msgm_bench.training import NoisedBatches, Runtime
from msgm_bench.training import trainer as training
from msgm_bench.training.optimizer import shaped

CPU = torch.device("cpu")


def silent(*arguments):
    """Hears of progress."""


def flat(tensors):
    """All entries, one after another."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).clone()


def weights(made):
    """The model's weights as one vector."""
    return flat(made.trainer.parameters)


def loss_of(made, step=0):
    """A loss with a graph, without dropout."""
    made.model.eval()
    return dsm_loss(made.model, made.noised_batches.batch("retain", step))


def test_gradient_is_backward_in_a_row(world):
    """``gradients`` equals what backward leaves in ``.grad``, in order, and moves nothing."""
    made = world()
    before = weights(made)
    (gradient,) = made.trainer.gradients(loss_of(made))
    assert gradient.dtype == torch.float32
    assert torch.equal(weights(made), before)
    loss_of(made).backward()
    assert torch.equal(gradient, flat(p.grad for p in made.trainer.parameters))
    for part, parameter in zip(
        shaped(gradient, made.trainer.parameters), made.trainer.parameters, strict=True
    ):
        assert torch.equal(part, parameter.grad)


def test_gradient_is_zero_where_the_loss_does_not_reach(world):
    """Parameters outside of the graph have zeros."""
    made = world()
    first = made.trainer.parameters[0]
    (gradient,) = made.trainer.gradients(3 * first.sum())
    assert (gradient[: first.numel()] == 3).all()
    assert (gradient[first.numel() :] == 0).all()


def test_descend_is_minimise(world):
    """Down the gradient of a loss is down the loss, bit for bit, average and moments included."""
    one, other = world(), world()
    for step in range(3):
        one.trainer.step = other.trainer.step = step
        one.trainer.minimise(loss_of(one, step))
        other.trainer.descend(*other.trainer.gradients(loss_of(other, step)))
        assert torch.equal(weights(one), weights(other))
        assert torch.equal(
            flat(one.trainer.ema.parameters.values()), flat(other.trainer.ema.parameters.values())
        )
        assert float(one.trainer.gradient_norm) == float(other.trainer.gradient_norm)


def test_clip_then_mask(world):
    """Adam gets clip g/|g|, the norm over all entries, where the mask is true, and 0 elsewhere."""
    made = world(max_grad_norm=0.01)
    (g,) = made.trainer.gradients(loss_of(made))
    mask = torch.rand(len(g), generator=torch.Generator().manual_seed(0)) < 0.3
    made.trainer.descend(g, mask)
    expected = torch.where(mask, 0.01 * g.double() / g.double().norm(), 0.0)
    gradient = flat(p.grad for p in made.trainer.parameters).double()
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-12)
    assert (gradient[~mask] == 0).all()


def test_masked_entries_stay(world):
    """Whatever Adam remembers, an entry whose mask is false keeps its bits; the others move."""
    made = world()
    for step in range(3):  # moments of all entries
        made.trainer.minimise(loss_of(made, step))
    before = weights(made)
    mask = torch.rand(len(before), generator=torch.Generator().manual_seed(1)) < 0.5
    for step in range(3, 6):
        made.trainer.minimise(loss_of(made, step), mask=mask)
    after = weights(made)
    assert torch.equal(after[~mask], before[~mask])
    moved = (after != before)[mask].float().mean()
    assert moved > 0.95


@pytest.mark.parametrize("keep_moments", [False, True])
def test_inner_loops_come_back(keep_moments, world):
    """Weights and average are as before; Adam's moments, too, unless they are to be kept."""
    made = world()
    for step in range(2):
        made.trainer.minimise(loss_of(made, step))
    before = copy.deepcopy(made.trainer.state_dict())
    with made.trainer.inner_loop(keep_moments):
        made.trainer.minimise(loss_of(made, 2))
        away = weights(made)
    after = made.trainer.state_dict()
    assert not torch.equal(away, weights(made))
    for old, new in (
        (before["network"], after["network"]),
        (before["ema"]["weights"], after["ema"]["weights"]),
    ):
        assert all(torch.equal(old[name], new[name]) for name in old)
    pairs = zip(
        before["optimizer"]["state"].values(), after["optimizer"]["state"].values(), strict=True
    )
    same = [torch.equal(a["exp_avg"], b["exp_avg"]) and a["step"] == b["step"] for a, b in pairs]
    assert same
    assert not any(same) if keep_moments else all(same)
    made.trainer.minimise(loss_of(made, 3))
    average = made.trainer.ema.state_dict()["weights"]
    assert any(not torch.equal(average[name], before["ema"]["weights"][name]) for name in average)


def test_an_inner_loop_that_fails_comes_back_too(world):
    """An error inside leaves the weights where they were, and the average follows again."""
    made = world()
    before = weights(made)

    def fail():
        with made.trainer.inner_loop():
            made.trainer.minimise(loss_of(made))
            raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        fail()
    assert torch.equal(weights(made), before)
    made.trainer.minimise(loss_of(made))
    assert made.trainer.ema.count == 1


# Preparation ------------------------------------------------------------------------------


class Stop(Exception):  # noqa: N818 - not an error but an event
    """Stands for a kill."""


@pytest.mark.parametrize(
    ("method", "where"),
    [
        *((Nested, where) for where in (("prepare", 1), ("prepare", 3), ("", 1), ("", 4))),
        (Sharing, ("prepare", 2)),
        (Sharing, ("", 2)),
    ],
)
def test_resume_is_exact(method, where, world, tmp_path):
    """Killed in the preparation or after it, a method with all of this ends with the same bits."""
    whole = world(method())
    log = whole.trainer.run(tmp_path / "whole", silent)

    def on_step(step, total, values, part=""):
        if (part, step) == where:
            first.trainer.store(tmp_path / "parts")
            raise Stop

    first = world(method())
    with pytest.raises(Stop):
        first.trainer.run(tmp_path / "parts", on_step)
    second = world(method())
    resumed_log = second.trainer.run(tmp_path / "parts", silent)
    assert torch.equal(weights(second), weights(whole))
    made, expected = second.trainer.method, whole.trainer.method
    assert torch.equal(flat(made.critic.parameters()), flat(expected.critic.parameters()))
    assert torch.equal(made.seen.mask, expected.seen.mask)
    assert made.seen.units.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert resumed_log.rows == log.rows


def test_moments_matter(world, tmp_path):
    """Shared moments give other weights than restored ones."""
    ends = []
    for method in (Nested, Sharing):
        made = world(method())
        made.trainer.run(tmp_path / method.name, silent)
        ends.append(weights(made))
    assert not torch.equal(*ends)


def test_preparation_has_its_own_progress(world, tmp_path):
    """Its units come first, under their own name; steps count from one as ever."""
    calls = []
    made = world(Nested())
    made.trainer.run(
        tmp_path, lambda step, total, values, part="": calls.append((part, step, total))
    )
    assert calls[:3] == [("prepare", unit, 3) for unit in (1, 2, 3)]
    assert calls[3:] == [("", step, 6) for step in range(1, 7)]


def test_the_clock_counts_in_the_preparation(world, tmp_path, monkeypatch):
    """Checkpoints are taken between units as between steps."""
    made, stored = world(Nested()), []
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(made.trainer, "store", stored.append)
    made.trainer.run(tmp_path, silent)
    assert len(stored) == 3 + 6


# What a method may draw -------------------------------------------------------------------


def test_undeclared_items_are_refused(world):
    """``items`` of a split that is not declared is the error that ``batch`` is."""
    with pytest.raises(PluginError, match="'match' reads the split 'forget'"):
        world().trainer.items("forget")


def test_noised_items_are_those_that_were_given(world):
    """Any number of items, in order, with x_t = a x0 + sigma eps; the same for the same draw."""
    made = world()
    items = made.trainer.items("retain")[slice(1, 4)]
    batch, again, other = (
        made.trainer.noised(items, step, draw) for step, draw in ((5, "x"), (5, "x"), (5, "y"))
    )
    codec, process = made.model.codec, made.model.process
    assert torch.equal(batch.y, items.y)
    gap = batch.x0 - codec.encode(items.x, torch.zeros(items.x.shape))
    assert (gap >= 0).all()
    assert (gap < 2 / 17 + 1e-6).all()
    assert torch.equal(batch.x_t, process.perturb(batch.x0, batch.t, batch.eps))
    assert torch.equal(batch.x_t, again.x_t)
    assert not torch.equal(batch.eps, other.eps)


def test_generated_items_are_not_encoded_again(world):
    """What is in model space already stays as it is."""
    made = world()
    x = made.trainer.noise("generated", count=3).normal((1, 8, 8))
    batch = made.trainer.noised(Examples(x, torch.zeros(3)), 0, encoded=True)
    assert torch.equal(batch.x0, x)


def test_noise_is_of_stage_and_stream(world):
    """The seed of the stage and the name of the stream decide; parts of it agree with the whole."""
    first, second = world(), world(seed=1)
    whole = first.trainer.noise("a", 3, count=300).normal((2,))
    part = first.trainer.noise("a", 3, count=10, start=280).normal((2,))
    assert torch.equal(part, whole[280:290])
    assert not torch.equal(whole, first.trainer.noise("a", 4, count=300).normal((2,)))
    assert not torch.equal(whole, second.trainer.noise("a", 3, count=300).normal((2,)))


# Generated data ---------------------------------------------------------------------------


def test_generated_data():
    """Drawn from the base by the item's number; killed half-way or not, whatever the data."""
    check_method(Replay)


def test_generated_data_are_counted(tmp_path):
    """Five evaluations of each of 48 samples without a graph, then one pass a step."""
    torch.manual_seed(0)
    base = ToyBackbone.create().build(DataStats.of(toy_images())).eval().requires_grad_(False)
    model = ToyBackbone.create().build(DataStats.of(toy_images()))
    budget = Training(steps=2, batch_size=16)
    noised_batches = NoisedBatches({}, model, 0, 16)
    trainer = training.Trainer(
        model, Replay.create(), noised_batches, budget, Runtime(CPU), 0, base
    )
    log = trainer.run(tmp_path, silent)
    drawn = 3 * 5 / 3
    assert [row["passes"] for row in log.rows] == pytest.approx([drawn + 1, drawn + 2])
