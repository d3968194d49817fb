"""Selective Amnesia: the Fisher diagonal against autograd by other ways, and the whole gradient."""

from __future__ import annotations

import pytest
import torch
from conditional_toy import (
    Curved,
    K,
    conditional_model,
    dsm_gradient,
    squared_error_gradient,
    trainer_of,
)
from toy_models import budget, ignore_progress

from msgm_bench import (
    DDIM,
    Conditioned,
    DiscreteDDPM,
    Model,
    OptionError,
    ProbabilityFlow,
    UniformDequantization,
    VariancePreserving,
)
from msgm_bench.testing import check_method
from msgm_builtin.methods.generated_data import GeneratedItems
from msgm_builtin.methods.selective_amnesia import SelectiveAmnesia

SMALL = {"samples_per_class": 2, "fisher_timesteps": 12, "nfe": 9}


def prepared(method, trainer):
    """The trainer, after the method's preparation."""
    method.setup(trainer)
    for unit in range(method.num_preparation_steps(trainer)):
        method.preparation_step(trainer, unit)
    return trainer


def fisher_batch(method, trainer, item):
    """(x_t, t, eps, c) of an item of F, drawn anew."""
    n, process = method.options.fisher_timesteps, trainer.model.process
    t = process.sample_times((torch.arange(n) + 0.5) / n)
    eps = trainer.noise("fisher", item, count=n).normal((2,))
    x0, c = method.memory.x[item].expand(n, 2), method.memory.y[item].expand(n)
    return process.perturb(x0, t, eps), t, eps, c


# Fisher diagonal ---------------------------------------------------------------------------


def test_fisher_is_that_of_a_loop_over_items_and_timesteps():
    """Mean over items of the squared sum over timesteps of gradients, each by its own backward."""
    method = SelectiveAmnesia.create(SMALL)
    trainer = prepared(method, trainer_of(method, network=Curved))
    A, W = trainer.parameters
    squares, squared_first = torch.zeros(2 + 2 * (K + 1)), torch.zeros(2 + 2 * (K + 1))
    for item in range(2 * K):
        total = torch.zeros_like(squares)
        for x_t, t, eps, c in zip(*fisher_batch(method, trainer, item), strict=True):
            eps_hat = torch.tanh(x_t * A + W[c]) + t * W[c]
            g = torch.autograd.grad((eps_hat - eps).square().sum(), (A, W))
            g = torch.cat([part.reshape(-1) for part in g]) * 1000 / 12
            total, squared_first = total + g, squared_first + g.square() / (2 * K)
        squares += total.square() / (2 * K)
    torch.testing.assert_close(method.fisher.diagonal, squares, rtol=1e-4, atol=1e-2)
    assert (squares - squared_first).norm() > 0.5 * squares.norm()  # the order matters


def test_fisher_is_that_of_torch_func():
    """The same by vmap of grad over the items, with the network as a function of its weights."""
    method = SelectiveAmnesia.create(SMALL)
    trainer = prepared(method, trainer_of(method, network=Curved))
    network = trainer.model.network
    weights = {name: p.detach() for name, p in network.named_parameters()}

    def loss(weights, x_t, t, eps, c):
        actual = torch.func.functional_call(network, weights, (x_t, t, c))
        return 1000 * (actual - eps).square().sum(dim=1).mean()

    items = [fisher_batch(method, trainer, item) for item in range(2 * K)]
    stacked = [torch.stack(parts) for parts in zip(*items, strict=True)]
    per_item = torch.func.vmap(torch.func.grad(loss), (None, 0, 0, 0, 0))(weights, *stacked)
    expected = torch.cat([per_item[name].square().mean(0).reshape(-1) for name in ("A", "W")])
    torch.testing.assert_close(method.fisher.diagonal, expected, rtol=1e-4, atol=1e-2)


def test_thousand_timesteps_are_the_whole_grid():
    """With timesteps=1000 each time of the usual grid is seen once, and the sum is the sum."""
    method = SelectiveAmnesia.create(SMALL | {"fisher_timesteps": 1000, "samples_per_class": 1})
    trainer = trainer_of(method, process=DiscreteDDPM(), batch_size=64)
    method.setup(trainer)
    method.memory.draw(trainer, 0)
    x_t, t, eps, c = fisher_batch(method, trainer, 1)
    torch.testing.assert_close(t, (torch.arange(1000) + 1) / 1000)
    expected = squared_error_gradient(trainer.model, x_t, c, eps) * x_t.numel()
    actual = method.fisher.summed_gradient(trainer, method.memory, 1).double()
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-2)


# The update --------------------------------------------------------------------------------


def test_update_is_the_formula():
    """grad L_f + gamma grad L_r + 2 lambda F (theta - theta*), sums over D, away from theta*."""
    method = SelectiveAmnesia.create(SMALL | {"gamma": 0.4, "ewc_weight": 0.7})
    trainer = trainer_of(method)
    method.setup(trainer)
    method.memory.x.copy_(torch.linspace(-1, 1, 4 * K).reshape(-1, 2))
    method.fisher.diagonal.copy_(torch.linspace(0, 9, 2 + 2 * (K + 1)))
    before = torch.cat([p.detach().reshape(-1) for p in trainer.parameters])
    with torch.no_grad():
        for p in trainer.parameters:
            p.add_(0.1)
    surrogate, replayed = method.surrogate_batch(trainer, 0), method.replay_batch(trainer, 0)
    moved = torch.cat([p.detach().reshape(-1) for p in trainer.parameters]) - before
    expected = 2 * dsm_gradient(trainer.model, surrogate) + 0.8 * dsm_gradient(
        trainer.model, replayed
    )
    pull = 1.4 * method.fisher.diagonal * moved
    assert 0.1 < float(pull.norm() / expected.norm()) < 10
    method.update(trainer, 0)
    actual = torch.cat([p.grad.reshape(-1) for p in trainer.parameters]).double()
    torch.testing.assert_close(actual, expected + pull, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_surrogate_fills_the_range_of_images(low):
    """U[low, high] of model space, under the forgotten classes and never under the null class."""
    method = SelectiveAmnesia.create(SMALL)
    codec = UniformDequantization(17, low, 1.0)
    trainer = trainer_of(method, (1, 3), codec=codec, batch_size=4000, label_dropout_prob=0.5)
    method.setup(trainer)
    batch = method.surrogate_batch(trainer, 0)
    share = (batch.x0.flatten().sort().values - low) / (1 - low)
    torch.testing.assert_close(share, torch.linspace(0, 1, 8000), rtol=0, atol=0.02)
    assert torch.bincount(batch.condition, minlength=K + 1).tolist()[::2] == [0, 0, 0]
    assert float((batch.condition == 1).double().mean()) == pytest.approx(0.5, abs=0.03)


def test_surrogate_fills_the_range_of_points():
    """Points have no range of their own: that of the items that were drawn."""
    method = SelectiveAmnesia.create(SMALL)
    trainer = trainer_of(method, batch_size=4000)
    method.setup(trainer)
    method.memory.x.copy_(torch.linspace(-3, 7, 4 * K).reshape(-1, 2))
    x = method.surrogate_batch(trainer, 0).x0
    assert (float(x.min()), float(x.max())) == pytest.approx((-3, 7), abs=0.02)


def test_replayed_items_are_of_kept_classes():
    """Drawn items of the classes of D_g, all in use; labels are dropped for the null class."""
    method = SelectiveAmnesia.create(SMALL)
    trainer = prepared(method, trainer_of(method, (1, 3), batch_size=600))
    batch = method.replay_batch(trainer, 0)
    assert set(batch.y.tolist()) == {0, 2, 4}
    used = (batch.x0[:, None] == method.memory.x).all(dim=2).any(dim=0)
    assert torch.equal(used, torch.isin(method.memory.y, torch.tensor([0, 2, 4])))
    assert float((batch.condition == K).double().mean()) == pytest.approx(0.1, abs=0.05)


def test_released_replay_keeps_its_labels():
    """label_dropout=false: each replayed item has its own class, however high the rate."""
    method = SelectiveAmnesia.create(SMALL | {"label_dropout": False})
    trainer = prepared(method, trainer_of(method, (1, 3), batch_size=60, label_dropout_prob=1.0))
    batch = method.replay_batch(trainer, 0)
    assert torch.equal(batch.condition, batch.y)
    assert K not in batch.condition.tolist()


def test_base_stays_the_anchor(tmp_path):
    """A long pull with nothing else brings the weights nowhere: they start at theta*."""
    method = SelectiveAmnesia.create(SMALL | {"ewc_weight": 1e3})
    trainer = trainer_of(method)
    trainer.run(tmp_path, ignore_progress)
    assert float(method.recorded["distance"]) >= 0
    torch.testing.assert_close(
        method.anchor, torch.cat([p.reshape(-1) for p in trainer.base.parameters()])
    )


def test_unconditional_models_are_a_diagnostic():
    """All drawn items are kept, nothing has a label, and it runs."""
    method = SelectiveAmnesia.create(SMALL | {"samples_per_class": 6})
    trainer = trainer_of(method)
    for model in (trainer.model, trainer.base):
        model.conditioning = None
        model.embed = lambda condition, x_t: torch.zeros(len(x_t), dtype=torch.long)
    trainer.noised_batches.conditioning = None
    prepared(method, trainer)
    assert len(method.memory) == 6
    assert method.replay_batch(trainer, 0).condition is None
    assert method.surrogate_batch(trainer, 0).condition is None
    assert torch.isfinite(method.update(trainer, 0))


# Drawn items -------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [0.0, 2.0])
@pytest.mark.parametrize("process", [VariancePreserving(), DiscreteDDPM()])
def test_items_are_the_base_models(process, w):
    """What Heun's method draws of the base, classes in turn, whatever the batches."""
    method = SelectiveAmnesia.create(SMALL)
    trainer = trainer_of(method, process=process, batch_size=4)
    with torch.no_grad():
        trainer.model.network.W.zero_()  # what is being trained does not draw
    generated = GeneratedItems(trainer, (0, 3), 10, nfe=9, guidance=w)
    assert generated.num_batches(trainer) == 3
    for batch in (2, 0, 1):
        generated.draw(trainer, batch)
    y = torch.tensor([0, 3] * 5)
    guided = Conditioned(conditional_model(process=process), y, w)
    noise = trainer.noise("generated", count=10)
    expected = ProbabilityFlow(5)(guided.eps_fn, process, (2,), noise).x
    assert torch.equal(generated.y, y)
    torch.testing.assert_close(generated.x, expected)


@pytest.mark.parametrize("w", [0.0, 2.0])
def test_items_of_the_reverse_chain(w):
    """sampler=ancestral: DDIM at eta = 1, the chain with the posterior's variance, guided."""
    process = DiscreteDDPM()
    trainer = trainer_of(SelectiveAmnesia.create(SMALL), process=process, batch_size=6)
    generated = GeneratedItems(trainer, (0, 3), 6, nfe=40, guidance=w, sampler="ancestral")
    generated.draw(trainer, 0)
    guided = Conditioned(conditional_model(process=process), torch.tensor([0, 3] * 3), w)
    noise = trainer.noise("generated", count=6)
    expected = DDIM(40, eta=1.0)(guided.eps_fn, process, (2,), noise).x
    torch.testing.assert_close(generated.x, expected, rtol=1e-4, atol=1e-4)


def test_more_ancestral_steps_than_the_grid_has_are_refused():
    """Before anything is trained."""
    method = SelectiveAmnesia.create({"sampler": "ancestral", "nfe": 1000})
    assert method.skip(conditional_model(process=DiscreteDDPM()), "finetune") is None
    with pytest.raises(OptionError, match="at most 100 steps"):
        method.skip(conditional_model(process=DiscreteDDPM(100)), "finetune")


def test_images_are_cut_off():
    """Drawn images lie in the range of the data."""
    method = SelectiveAmnesia.create()
    trainer = trainer_of(method, codec=UniformDequantization(16, -0.1, 0.1))
    generated = GeneratedItems(trainer, (0,), 8, nfe=9)
    generated.draw(trainer, 0)
    assert (float(generated.x.min()), float(generated.x.max())) == pytest.approx((-0.1, 0.1))


# Options -----------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["full", "paper"])
def test_published_budget(preset):
    """Steps, batch, learning rate and average of the released configuration, and no warm-up."""
    actual = budget("selective_amnesia", preset)
    assert (actual.steps, actual.batch_size, actual.learning_rate) == (20_000, 128, 1e-4)
    assert (actual.ema_decay, actual.warmup_steps, actual.lr_schedule) == (0.9999, 0, "constant")
    assert actual.use_ema_warmup == (preset != "paper")
    assert not actual.continue_optimizer


def test_released_run():
    """paper: items of 1,000 ancestral steps at w = 2, and no label dropped."""
    c = SelectiveAmnesia.create(SelectiveAmnesia.presets["paper"]["method"]).options
    assert (c.sampler, c.nfe, c.guidance, c.label_dropout) == ("ancestral", 1000, 2.0, False)


def test_defaults():
    """gamma 1, lambda 10, 500 items a class over 1000 timesteps."""
    c = SelectiveAmnesia.create().options
    assert (c.gamma, c.ewc_weight, c.samples_per_class, c.fisher_timesteps) == (
        1.0,
        10.0,
        500,
        1000,
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [("gamma", -1), ("ewc_weight", -0.1), ("samples_per_class", 0), ("fisher_timesteps", 0)],
)
def test_bad_options_are_named(option, value):
    """An option out of range is refused by name."""
    with pytest.raises(OptionError, match=f"option '{option}' of selective_amnesia"):
        SelectiveAmnesia.create({option: value})


def test_it_runs_on_both_kinds_of_models():
    """It refuses nothing."""
    model = conditional_model()
    plain = Model(model.network, model.process, model.codec, (2,))
    assert SelectiveAmnesia.create().skip(model, "finetune") is None
    assert SelectiveAmnesia.create().skip(plain, "finetune") is None


def test_conformance():
    """Resume is exact in drawing, in F and after it; D_f and D_g are never touched."""
    check_method(SelectiveAmnesia, {"samples_per_class": 2, "fisher_timesteps": 3, "nfe": 3})
