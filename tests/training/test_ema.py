"""The average of the weights, and trainings that go on where another ended."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from msgm_bench import Settings, dsm_loss
from msgm_bench.errors import OptionError
from msgm_bench.training.ema import EMA


def scalar(value):
    """A network of one weight and one buffer."""
    network = nn.Module()
    network.weight = nn.Parameter(torch.tensor(value))
    network.register_buffer("seen", torch.tensor(0))
    return network


def move(network, average, values):
    """One update of the average for each value of the weight."""
    for value in values:
        with torch.no_grad():
            network.weight.fill_(value)
            network.seen += 1
        average.update()


def test_a_constant_decay_starts_at_the_weights_that_are_there():
    """m_n = d^n m_0 + (1 - d) sum_k d^(n - k) theta_k."""
    network = scalar(5.0)
    average = EMA(network, 0.8, use_warmup=False)
    move(network, average, [1.0, 2.0, -4.0])
    expected = 0.8**3 * 5 + 0.2 * (0.8**2 * 1 + 0.8 * 2 - 4)
    assert float(average.parameters["weight"]) == pytest.approx(expected, rel=1e-6)
    assert (int(average.buffers["seen"]), average.count) == (3, 3)


def test_a_warm_up_forgets_where_it_started():
    """The first update is a copy, the next have the decays 2/11, 3/12, ... up to the largest."""
    network = scalar(1e6)
    average = EMA(network, 0.24)
    move(network, average, [1.0, 2.0, 3.0])
    m = 2 / 11 * 1 + 9 / 11 * 2
    assert float(average.parameters["weight"]) == pytest.approx(0.24 * m + 0.76 * 3, rel=1e-6)


def test_the_average_is_stored_with_its_count():
    """A loaded one goes on as the stored one would have."""
    network = scalar(0.0)
    average, other = EMA(network, 0.9), EMA(network, 0.9)
    move(network, average, [1.0, 2.0])
    other.load_state_dict(average.state_dict())
    move(network, average, [3.0])
    move(network, other, [3.0])
    assert torch.equal(average.parameters["weight"], other.parameters["weight"])


def weights(made):
    """Weights and average, one after another."""
    parts = [*made.model.parameters(), *made.trainer.ema.parameters.values()]
    return torch.cat([part.detach().reshape(-1) for part in parts])


def steps(made, numbers):
    """One step down each of these batches' losses, without dropout."""
    made.model.eval()
    for step in numbers:
        made.trainer.step = step
        made.trainer.minimise(dsm_loss(made.model, made.noised_batches.batch("retain", step)))


def test_a_training_goes_on_with_weights_optimiser_and_average(world):
    """Three steps and three more are six steps to the bit, the average included."""
    whole, first = world(warmup_steps=0), world(warmup_steps=0)
    steps(whole, range(6))
    steps(first, range(3))
    stored = {name: tensor.clone() for name, tensor in first.trainer.continuation().items()}
    first.trainer.use_average()  # what the base's model is: the second one starts as its copy
    second = world(warmup_steps=2, continue_optimizer=True)
    second.model.load_state_dict(first.model.state_dict())
    second.trainer.ema = EMA(second.model.network, 0.9)
    second.trainer.continue_from(stored)
    steps(second, range(3, 6))
    assert torch.equal(weights(second), weights(whole))


def test_a_training_that_goes_on_has_no_warm_up(world):
    """Its first step is as long as its last one."""
    rates = [
        world(warmup_steps=9, continue_optimizer=c).trainer.learning_rate(0) for c in (True, False)
    ]
    assert rates == pytest.approx([2e-4, 2e-4 / 9])


def test_only_a_fine_tuning_can_go_on():
    """There is no optimiser to go on with where the weights are fresh."""
    continued = {"continue_optimizer": True}
    assert Settings(finetuning=continued).budget(True).continue_optimizer
    assert not Settings(finetuning=continued).budget(False).continue_optimizer
    with pytest.raises(OptionError, match="continue_optimizer"):
        Settings(training=continued).budget(False)
