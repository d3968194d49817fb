"""The likelihood task on a model whose density is known."""

import dataclasses
import math

import pytest
import torch
from contexts import CPU, MEAN, STD, context

from msgm_bench import IdentityCodec, Noise, OptionError, derive_seed
from msgm_builtin.tasks.likelihood import Likelihood

FIXED = {"solver": "rk4", "steps": 16, "divergence": "exact"}


def test_fixed_steps_give_the_density():
    """16 steps of rk4 are within 0.005 bits/dim of a Gaussian carried from the prior."""
    examined = context(test=16)
    task = Likelihood.create(FIXED | {"batch_size": 16})
    nats = task.draw(examined, 0, task.total(examined))["nats"]
    data = torch.cat([examined.retain.x, examined.forget.x])
    model = examined.model
    u = Noise(derive_seed(examined.seed, "likelihood", 0), 0, 16, CPU).uniform(model.shape)
    ends = torch.tensor([model.process.t_min, model.process.T], dtype=torch.float64)
    _, (least, most) = model.process.marginal(ends)
    scale = math.hypot(STD, most) / math.hypot(STD, least)  # what the flow does to x - MEAN
    z = model.codec.encode(data, u).double().flatten(1)
    prior = torch.distributions.Normal(0.0, most)
    expected = -(prior.log_prob(MEAN + scale * (z - MEAN)) + math.log(scale)).sum(dim=1)
    error = (nats - expected).abs() / (model.dim * math.log(2))
    assert error.max() < 0.005


def test_fixed_steps_do_not_depend_on_the_batch():
    """An item's value is the same whatever shares its batch."""
    examined = context(test=12)
    task = Likelihood.create(FIXED)
    whole = task.draw(examined, 0, 12)["nats"]
    parts = torch.cat([task.draw(examined, 0, 5)["nats"], task.draw(examined, 5, 7)["nats"]])
    assert torch.allclose(whole, parts, rtol=1e-6)


@pytest.mark.parametrize("options", [{"solver": "rk4"}, {"steps": 16}])
def test_steps_belong_to_fixed_solvers(options):
    """A fixed solver without steps, or steps without one, is refused before anything is drawn."""
    with pytest.raises(OptionError, match="steps with heun and rk4"):
        Likelihood.create(options).check(context().model)


def test_latents_have_no_likelihood():
    """A codec without an offset has no density of the data, and the task says so."""
    model = context().model
    assert Likelihood().skip(model) is None
    model.codec = dataclasses.replace(IdentityCodec(), offset=None)
    assert "latents" in Likelihood().skip(model)
