"""Passes: items forward and backward, counted at the networks whatever a method does."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matching import Match
from nested import Nested
from torch import nn
from torch.func import functional_call, grad, vmap

from msgm_bench import Conditioned, DataStats, dsm_loss
from msgm_bench.testing import ToyBackbone, toy_images
from msgm_bench.training.pass_counter import PassCounter


def silent(*arguments):
    """Hears of progress."""


def counting(*networks, items=4):
    """Passes of these networks."""
    passes = PassCounter(items)
    for network in networks:
        passes.add(network)
    return passes


def back(value, *parameters):
    """A backward pass that keeps the graph."""
    torch.autograd.grad(value, parameters, retain_graph=True)


@given(items=st.integers(1, 9), evaluations=st.lists(st.integers(0, 3), max_size=5))
@settings(max_examples=25)
def test_a_forward_is_a_third_and_each_backward_two(items, evaluations):
    """N items, of which each evaluation goes back k times: sum_i N (1 + 2 k_i) / 3 N'."""
    network, passes = nn.Linear(2, 2), PassCounter(4)
    passes.add(network)
    with passes.counting():
        for backwards in evaluations:
            output = network(torch.zeros(items, 2))
            for _ in range(backwards):
                back(output.sum(), network.weight)
    assert passes.thirds == sum(items * (1 + 2 * k) for k in evaluations)
    assert passes.count == pytest.approx(passes.thirds / 12)


def test_only_what_is_inside_the_block_counts():
    """Before and after it a network is as it was."""
    network = nn.Linear(2, 2)
    passes = counting(network)
    network(torch.zeros(4, 2))
    with passes.counting():
        network(torch.zeros(4, 2))
    network(torch.zeros(4, 2))
    assert passes.count == pytest.approx(1 / 3)
    assert not network._forward_hooks


class Several(nn.Module):
    """A network whose outputs are packed as ``pack`` does."""

    def __init__(self, pack):
        super().__init__()
        self.layer, self.pack = nn.Linear(2, 2), pack

    def forward(self, x):
        """The output, twice."""
        y = self.layer(x)
        return self.pack(y, y.square())


@pytest.mark.parametrize(
    ("pack", "read"),
    [
        (lambda a, b: (a, b), lambda out: out[0] + out[1]),
        (lambda a, b: [a, {"b": b}], lambda out: out[1]["b"]),
        (lambda a, b: {"a": a, "few": b[:1], "name": "x"}, lambda out: out["a"]),
    ],
)
def test_networks_of_several_outputs_count_as_those_of_one(pack, read):
    """Forward 1/3 and each backward 2/3, whichever outputs a loss reads; no way back is free."""
    network = Several(pack)
    passes = counting(network)
    with passes.counting():
        output = read(network(torch.zeros(4, 2)))
        back(output.sum(), network.layer.weight)
        assert passes.count == pytest.approx(1)
        back(output.square().sum(), network.layer.weight)
    assert passes.count == pytest.approx(5 / 3)


def gradients_of_items(network, x):
    """One gradient an item, by ``torch.func``."""

    def loss(parameters, item):
        return functional_call(network, parameters, (item[None],)).square().sum()

    vmap(grad(loss), in_dims=(None, 0))(dict(network.named_parameters()), x)


def five_networks(network, x):
    """Five sets of weights at once, forward."""
    stacked = {name: w.detach().expand(5, *w.shape) for name, w in network.named_parameters()}
    vmap(lambda weights: functional_call(network, weights, (x,)))(stacked)


def batched_gradients(network, x):
    """Ten directions back through one graph."""
    y = network(x)
    torch.autograd.grad(y, network.weight, torch.ones(10, *y.shape), is_grads_batched=True)


@pytest.mark.parametrize(
    ("compute", "thirds"),
    [(gradients_of_items, 4 * 3), (five_networks, 4 * 5), (batched_gradients, 4 * (1 + 2 * 10))],
)
def test_what_is_computed_at_once_counts_as_often(compute, thirds):
    """As a loop over the items, the networks or the directions would count."""
    network = nn.Linear(2, 2)
    passes = counting(network)
    with passes.counting():
        compute(network, torch.randn(4, 2))
    assert passes.thirds == thirds


def test_two_losses_of_one_graph_are_two_ways_back(world):
    """One forward and two backward passes: 1/3 + 2/3 + 2/3, and each gradient is its loss's own."""
    made = world()
    made.model.eval()
    batch = made.noised_batches.batch("retain", 0)

    def losses():
        eps_hat = made.model.eps(batch.x_t, batch.t)
        return (eps_hat - batch.eps).square().mean(), eps_hat.square().mean()

    expected = [made.trainer.gradients(losses()[i])[0] for i in (0, 1)]
    with made.trainer.passes.counting():
        both = made.trainer.gradients(*losses())
    assert all(torch.equal(a, b) for a, b in zip(both, expected, strict=True))
    assert made.trainer.passes.count == pytest.approx(5 / 3)


def test_losses_that_go_back_together_go_back_once(world):
    """Their gradients arrive at the output as one sum: a whole pass."""
    made = world()
    batch = made.noised_batches.batch("retain", 0)
    with made.trainer.passes.counting():
        eps_hat = made.model.eps(batch.x_t, batch.t)
        loss = (eps_hat - batch.eps).square().mean() + eps_hat.square().mean() + eps_hat.sum()
        made.trainer.minimise(loss)
    assert made.trainer.passes.count == 1.0


@pytest.mark.parametrize("mode", ["graph", "no_grad", "eval"])
def test_a_forward_without_a_backward_is_a_third(mode, world):
    """Whether a graph was kept or not, and in which mode the network is."""
    made = world()
    made.model.train(mode != "eval")
    batch = made.noised_batches.batch("retain", 0)
    with made.trainer.passes.counting(), torch.set_grad_enabled(mode == "graph"):
        made.model.eps(batch.x_t, batch.t)
    assert made.trainer.passes.count == pytest.approx(1 / 3)


def test_the_way_back_through_a_frozen_network_counts():
    """What counts is that a gradient comes back, not whose weights would move."""
    frozen = nn.Linear(2, 2).requires_grad_(False)
    passes, x = counting(frozen), torch.zeros(4, 2, requires_grad=True)
    with passes.counting():
        back(frozen(x).sum(), x)
    assert passes.count == 1.0


def test_guidance_is_two_evaluations():
    """The class and the null class go through the network in one call, of twice the items."""
    info = DataStats.of(toy_images())
    model = ToyBackbone.create().build(DataStats(**vars(info) | {"classes": 3}))
    passes = counting(model.network)
    x, t, labels = torch.zeros(4, *model.shape), torch.full((4,), 0.5), torch.arange(4) % 3
    with passes.counting():
        loss = Conditioned(model, labels, 2.0).eps(x, t).square().mean()
        loss.backward()
    assert passes.count == 2.0


def test_a_compiled_network_counts_the_same():
    """``torch.compile`` leaves the hooks where they are, on both ways."""
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network.compile(backend="eager")
    passes = counting(network)
    with passes.counting():
        for _ in range(3):
            output = network(torch.ones(4, 2))
            back(output.sum(), network[0].weight)
            back(output.square().sum(), network[0].weight)
        with torch.no_grad():
            network(torch.ones(4, 2))
    assert passes.count == pytest.approx(3 * 5 / 3 + 1 / 3)


def test_copies_count_and_nothing_counts_twice():
    """A copy that a method makes on its way counts, named afterwards or not."""
    network = nn.Linear(2, 2)
    passes = counting(network)
    with passes.counting():
        first, second = copy.deepcopy(network), copy.deepcopy(network)
        passes.add(first)
        passes.add(nn.Sequential(second))
        for module in (network, first, second):
            module(torch.zeros(4, 2))
    assert passes.count == 1.0


def test_a_pass_has_its_items_whatever_the_batch(world, tmp_path):
    """Batches of 8 where a pass is 4 items: two passes a step, and half the steps of a budget."""
    rows = world(pass_items=4, batch_size=8, steps=3).trainer.run(tmp_path / "steps", silent).rows
    assert [row["passes"] for row in rows] == [2, 4, 6]
    made = world(pass_items=4, batch_size=8, passes=6)
    assert made.trainer.total_steps == 3
    assert len(made.trainer.run(tmp_path / "passes", silent).rows) == 3


class Greedy(Match):
    """A second loss on the forward pass of the first."""

    def update(self, session, step):
        """Descend the sum of both gradients."""
        batch = session.batch("retain", step)
        eps_hat = session.model.eps(batch.x_t, batch.t)
        loss = (eps_hat - batch.eps).square().mean()
        session.descend(sum(session.gradients(loss, 0.1 * eps_hat.square().mean())))
        return loss.detach()


def test_a_budget_cannot_be_stretched_by_one_graph(world, tmp_path):
    """Ten passes are six steps of 5/3, not ten steps of one forward each."""
    rows = world(Greedy(), passes=10).trainer.run(tmp_path, silent).rows
    assert rows[-1] == rows[-1] | {"step": 6, "passes": pytest.approx(10)}


def test_passes_of_a_training_are_logged(world, tmp_path):
    """One a step for plain training; all of a strange method's, as counted by hand."""
    plain = world(Match()).trainer.run(tmp_path / "plain", silent)
    assert [row["passes"] for row in plain.rows] == [1, 2, 3, 4, 5, 6]
    strange = world(Nested()).trainer.run(tmp_path / "strange", silent)
    prepared = 3  # batches of four items, forward and backward
    step = 1 + 2 + 1 / 3 + 1  # critic, inner loop, critic without a way back, model
    expected = [prepared + n * step for n in range(1, 7)]
    assert [row["passes"] for row in strange.rows] == pytest.approx(expected)


class Teacher(Match):
    """Asks a copy of the model as it was, which nothing declares."""

    def setup(self, session):
        """Copy."""
        self.teacher = copy.deepcopy(session.model)

    def update(self, session, step):
        """Stay near it."""
        batch = session.batch("retain", step)
        with torch.no_grad():
            aim = self.teacher.eps(batch.x_t, batch.t)
        loss = dsm_loss(session.model, batch)
        session.minimise(loss + 0.1 * aim.square().mean())
        return loss.detach()


def test_a_teacher_of_the_methods_own_counts(world, tmp_path):
    """A third of a pass a step, beside the model's one."""
    rows = world(Teacher()).trainer.run(tmp_path, silent).rows
    assert [row["passes"] for row in rows] == pytest.approx([n * 4 / 3 for n in range(1, 7)])


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("descends", [False, True])
def test_a_counted_graph_is_freed(outputs, descends):
    """What a network has evaluated goes when nobody refers to it, with or without a backward."""

    class Network(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return y if outputs == 1 else (y, y * 2)

    counter = PassCounter(4)
    network = Network(3, 3)
    counter.add(network)
    with counter.counting():
        evaluated = network(torch.ones(4, 3))
        tensors = [evaluated] if outputs == 1 else list(evaluated)
        if descends:
            sum(tensor.sum() for tensor in tensors).backward()
        references = [weakref.ref(tensor) for tensor in tensors]
        del evaluated, tensors
        gc.collect()
    assert [reference() for reference in references] == [None] * outputs
