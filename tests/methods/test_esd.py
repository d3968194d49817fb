"""ESD's target in closed form, its states against the sampler, its gradient."""

from __future__ import annotations

import pytest
import torch
from conditional_toy import ClassShift, K, conditional_model, squared_error_gradient, trainer_of
from toy_models import budget, ignore_progress

from msgm_bench import (
    DDIM,
    Conditioned,
    DiscreteDDPM,
    Model,
    OptionError,
    RunSpec,
    VariancePreserving,
)
from msgm_bench.experiment.plan import resolve
from msgm_bench.testing import check_method
from msgm_builtin.methods.esd import ESD


def ready(options=None, forget_labels=(3,), **trainer):
    """The method and a trainer, set up and prepared; the model is no longer the base."""
    method = ESD.create({"trajectory_steps": 6} | (options or {}))
    session = trainer_of(method, forget_labels, **trainer)
    method.setup(session)
    for unit in range(method.num_preparation_steps(session)):
        method.preparation_step(session, unit)
    with torch.no_grad():
        for parameter in session.parameters:
            parameter.mul_(0.7)
    return method, session


@pytest.mark.parametrize("eta", [0.0, 1.0, 2.5])
def test_target_in_closed_form(eta):
    """With eps*_c = A x + W_c: A x + W_null - eta (W_c - W_null), or from W_c; of the base."""
    x_t, t, c_f = torch.randn(4, 2), torch.full((4,), 0.5), torch.tensor([3, 3, 1, 3])
    for erase_from, start in (("null", [K] * 4), ("class", c_f)):
        method, session = ready({"eta": eta, "erase_from": erase_from}, (1, 3))
        A, W = session.base.network.A, session.base.network.W
        expected = A * x_t + W[start] - eta * (W[c_f] - W[K])
        torch.testing.assert_close(method.target(session, x_t, t, c_f), expected)


@pytest.mark.parametrize("eta", [1.0, 2.0, 7.5])
def test_released_strength_is_one_more(eta):
    """From eps*_c with eta is from eps*_null with eta - 1: the released 2 is the paper's 1."""
    x_t, t, c_f = torch.randn(4, 2), torch.full((4,), 0.5), torch.full((4,), 3)
    method, session = ready({"eta": eta, "erase_from": "class"})
    paper, _ = ready({"eta": eta - 1})
    torch.testing.assert_close(
        method.target(session, x_t, t, c_f), paper.target(session, x_t, t, c_f)
    )


@pytest.mark.parametrize("states", ["trajectory", "noised"])
def test_update_is_the_formula(states):
    """The gradient of |eps_hat(x_t, t, c_f) - target|^2/D, written out; the target has none."""
    method, session = ready({"state_source": states, "samples_per_class": 4, "nfe": 5})
    x_t, t, c_f = method.sample_states(session, 0)
    expected = squared_error_gradient(session.model, x_t, c_f, method.target(session, x_t, t, c_f))
    method.update(session, 0)
    actual = torch.cat([p.grad.reshape(-1) for p in session.parameters]).double()
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("process", [VariancePreserving(), DiscreteDDPM()])
@pytest.mark.parametrize("w", [0.0, 2.0])
def test_states_are_on_the_way_of_ddim(process, w):
    """Each item is where DDIM, guided by the model that is trained, comes past at its time."""
    method, session = ready({"guidance": w}, (1, 3), process=process, batch_size=13)
    x_t, t, c_f = method.sample_states(session, 0)
    noise, passed = session.noise("prior", 0, count=13), {}
    guided = Conditioned(session.model, c_f, w)

    def eps(x, at):
        passed[round(float(at[0]), 5)] = x
        return guided.eps(x, at)

    DDIM(6)(eps, process, (2,), noise)
    assert len(passed) == 6
    for i in range(13):
        torch.testing.assert_close(x_t[i], passed[round(float(t[i]), 5)][i], rtol=1e-4, atol=1e-4)


def test_every_time_has_its_share():
    """Over many batches an item is at each of the six times equally often."""
    method, session = ready(batch_size=5)
    t = torch.cat([method.sample_states(session, step)[1] for step in range(120)])
    _, counts = t.unique(return_counts=True)
    torch.testing.assert_close(counts / 600, torch.full((6,), 1 / 6), rtol=0, atol=0.04)


def test_batches_of_one():
    """The published batch size: each step is at a time of its own."""
    method, session = ready(batch_size=1)
    times = {float(method.sample_states(session, step)[1]) for step in range(40)}
    assert len(times) == 6


def test_the_way_is_walked_without_dropout():
    """The model is in evaluation mode on the way, and in training mode after it."""
    method, session = ready()
    modes = []
    session.model.network.register_forward_pre_hook(lambda net, _: modes.append(net.training))
    session.model.train()
    method.sample_states(session, 0)
    assert modes
    assert not any(modes)
    assert session.model.training


def test_noised_items_are_of_forgotten_classes():
    """a(t) x0 + sigma(t) eps of what the base drew, under the class that it drew them for."""
    method, session = ready(
        {"state_source": "noised", "samples_per_class": 4, "nfe": 5}, (1, 3), batch_size=50
    )
    x_t, _, c_f = method.sample_states(session, 0)
    assert set(c_f.tolist()) == {1, 3}
    assert sorted(method.items.y.tolist()) == [1] * 4 + [3] * 4
    batch = session.noised(method.items[torch.zeros(50).long()], 0, "states", encoded=True)
    a, sigma = session.model.process.marginal(batch.t)
    x0 = (x_t - sigma[:, None] * batch.eps) / a[:, None]
    near = (x0[:, None] - method.items.x).abs().amax(dim=2).amin(dim=1)
    assert float(near.max()) < 1e-4


# Which weights -----------------------------------------------------------------------------


class Table(ClassShift):
    """A network that keeps what it knows of classes in an embedding."""

    def __init__(self):
        super().__init__()
        table = torch.nn.Embedding(K + 1, 2)
        table.weight.data.copy_(self.W.detach())
        del self.W
        self.table = table

    def forward(self, x_t, t, condition):
        """eps_hat."""
        return x_t * self.A + self.table(condition)


def test_embeddings_alone(tmp_path):
    """weights=class moves the rows of the forgotten classes, and no other bit."""
    method = ESD.create({"weights": "class", "trajectory_steps": 3})
    session = trainer_of(method, (1, 3), network=Table, steps=5)
    before = [p.detach().clone() for p in session.model.parameters()]
    session.run(tmp_path, ignore_progress)
    (A, W), (A_before, W_before) = session.model.parameters(), before
    assert torch.equal(A, A_before)
    moved = (W_before != W).any(dim=1)
    assert moved.tolist() == [c in (1, 3) for c in range(K + 1)]


def test_embeddings_must_be_there():
    """A network without any is refused before training; one with some is not."""
    method = ESD.create({"weights": "class"})
    assert "use all" in method.skip(conditional_model(), "finetune")
    assert method.skip(conditional_model(Table), "finetune") is None
    run = {"dataset": "digits", "forget": ["3"], "backbone": "ddpm", "method": "esd"}
    run |= {"params": {"weights": "class"}, "conditional": True}
    for network in ("mlp", "unet"):
        assert resolve(RunSpec(**run, backbone_params={"network": network})).skipped is None


# Options -----------------------------------------------------------------------------------


def test_unconditional_models_are_refused():
    """With the reason, and before anything is trained."""
    model = conditional_model()
    plain = Model(model.network, model.process, model.codec, (2,))
    assert "null class" in ESD.create().skip(plain, "finetune")
    assert ESD.create().skip(model, "finetune") is None
    run = {"dataset": "digits", "forget": ["3"], "backbone": "ddpm", "method": "esd"}
    assert "--conditional" in resolve(RunSpec(**run)).skipped.reason
    assert resolve(RunSpec(**run, conditional=True)).skipped is None


def test_more_steps_than_there_are_times():
    """A trajectory cannot have more steps than the process's grid, which is said at once."""
    with pytest.raises(OptionError, match="at most 20 steps"):
        ESD.create({"trajectory_steps": 21}).skip(
            conditional_model(process=DiscreteDDPM(20)), "finetune"
        )


@pytest.mark.parametrize("preset", ["full", "paper"])
def test_published_budget(preset):
    """Steps, batch and learning rate of the released code; no average, no warm-up."""
    actual = resolve(
        RunSpec(
            dataset="digits",
            forget=["3"],
            backbone="ddpm",
            method="esd",
            preset=preset,
            conditional=True,
        )
    ).training.budget
    assert (actual.steps, actual.batch_size, actual.learning_rate) == (200, 1, 5e-5)
    assert (actual.ema_decay, actual.warmup_steps, actual.lr_schedule) == (0.0, 0, "constant")
    assert budget("esd", preset) == actual


def test_defaults():
    """eta 1 from the null class, the paper's guidance 3 as w = 2, fifty steps, its own way."""
    c = ESD.create().options
    assert (c.eta, c.erase_from, c.guidance, c.trajectory_steps) == (1.0, "null", 2.0, 50)
    assert (c.state_source, c.weights, c.retain_weight) == ("trajectory", "auto", 0.0)


@pytest.mark.parametrize(
    ("option", "value"),
    [("eta", -1), ("guidance", -0.1), ("trajectory_steps", 0), ("erase_from", "it")],
)
def test_bad_options_are_named(option, value):
    """An option out of range is refused by name."""
    with pytest.raises(OptionError, match=f"option '{option}' of esd"):
        ESD.create({option: value})


@pytest.mark.parametrize(
    "options",
    [
        {"trajectory_steps": 4},
        {"state_source": "noised", "samples_per_class": 3, "nfe": 5},
        {"trajectory_steps": 4, "weights": "class"},
        {"trajectory_steps": 4, "retain_weight": 1.0},
    ],
)
def test_conformance(options):
    """Forget sets differ, resume is exact, D_f and D_g are never touched."""
    check_method(ESD, options)
