"""The likelihood task on a model whose density is known."""

import dataclasses
import math

import pytest
import torch
from contexts import CPU, MEAN, STD, context

from msgm_bench import IdentityCodec, Noise, OptionError, derive_seed
from msgm_builtin.metrics.nll import NLL
from msgm_builtin.tasks.likelihood import Likelihood

FIXED = {"solver": "rk4", "steps": 16, "divergence": "exact"}


def test_fixed_steps_give_the_density():
    """16 steps of rk4 are within 0.005 bits/dim of a Gaussian carried from the prior."""
    examined = context(test=16)
    task = Likelihood.create(FIXED | {"batch_size": 16})
    nats = task.draw(examined, 0, task.total(examined))["nats"]
    error = (nats - density(examined)).abs() / (examined.model.dim * math.log(2))
    assert error.max() < 0.005


def density(examined):
    """The exact NLL of the dequantised items under a Gaussian carried from the prior, nats."""
    data = torch.cat([examined.retain.x, examined.forget.x])
    model = examined.model
    u = Noise(derive_seed(examined.seed, "likelihood", 0), 0, 16, CPU).uniform(model.shape)
    ends = torch.tensor([model.process.t_min, model.process.T], dtype=torch.float64)
    _, (least, most) = model.process.marginal(ends)
    scale = math.hypot(STD, most) / math.hypot(STD, least)  # what the flow does to x - MEAN
    z = model.codec.encode(data, u).double().flatten(1)
    prior = torch.distributions.Normal(0.0, most)
    return -(prior.log_prob(MEAN + scale * (z - MEAN)) + math.log(scale)).sum(dim=1)


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


ADAMS = {"solver": "adams", "check_items": 3}


def test_adams_gives_the_density_and_its_own_error():
    """32 nodes are within 0.005 bits/dim of a Gaussian's, and the check says so."""
    examined = context(test=16)
    task = Likelihood.create(ADAMS)
    drawn = task.draw(examined, 0, task.total(examined))
    dim = examined.model.dim * math.log(2)
    assert float((drawn["nats"] - density(examined)).abs().max()) / dim < 0.005
    is_checked = drawn["solver_error"] >= 0
    retain = len(examined.retain)
    assert is_checked.nonzero().flatten().tolist() == [0, 1, 2, retain, retain + 1, retain + 2]
    assert float(drawn["solver_error"].max()) / dim < 0.005
    assert drawn["nfe"].tolist() == [32 + 96 * int(checked) for checked in is_checked]
    assert task.cost(examined.model).nfe == 128


def test_adams_does_not_depend_on_the_batch():
    """An item's value and its check are the same whatever shares its batch."""
    examined = context(test=12)
    task = Likelihood.create(ADAMS | {"steps": 8})
    whole = task.draw(examined, 0, 12)
    parts = [task.draw(examined, 0, 5), task.draw(examined, 5, 7)]
    for name, values in whole.items():
        assert torch.allclose(values, torch.cat([part[name] for part in parts]), rtol=1e-6)


def test_rows_of_adams():
    """Version 2 of the protocol, and the mean error of the checked items with their number."""
    examined = context(test=12)
    task = Likelihood.create(ADAMS | {"steps": 8})
    artifact = task.draw(examined, 0, 12)
    rows = {(row.metric, row.split): row for row in NLL().measure(examined, task, artifact)}
    row = rows["nll_solver_error", "retain"]
    expected = artifact["solver_error"][:3].mean() / (examined.model.dim * math.log(2))
    assert row.value == pytest.approx(float(expected))
    assert (row.n, row.unit) == (3, "bits/dim")
    assert rows["nll", "retain"].protocol.startswith("nll/pf-ode@2")
    plain = NLL().protocol(examined, Likelihood.create(FIXED))
    assert plain.id.startswith("nll/pf-ode@1")


def test_the_protocol_of_a_solver_has_its_own_options():
    """What a solver does not read is no part of its protocol."""
    examined = context(test=12)
    fixed = Likelihood.create(FIXED).protocol(examined)
    assert fixed == Likelihood.create(FIXED | {"probes": 4}).protocol(examined)
    adams = Likelihood.create(ADAMS).protocol(examined)
    assert adams == Likelihood.create(ADAMS | {"rtol": 0.1, "steps": 32}).protocol(examined)
    assert adams["steps"] == 32


def test_three_nodes_are_refused():
    """The order needs four."""
    with pytest.raises(OptionError, match="4 nodes"):
        Likelihood.create(ADAMS | {"steps": 3}).check(context().model)
