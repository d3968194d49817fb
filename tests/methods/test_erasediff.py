"""EraseDiff's update against gradients that are written out."""

from __future__ import annotations

import pytest
import torch
from toy_models import (
    budget,
    dsm_gradient,
    ignore_progress,
    input_and_target,
    recorded_gradients,
    trainer_of,
    weights,
)

from msgm_bench import OptionError
from msgm_bench.testing import check_method
from msgm_builtin.methods.erasediff import EraseDiff


def parts(trainer, method, step=0):
    """(g_r, g_q) of a step, written out; nothing has moved yet."""
    g_r = dsm_gradient(trainer, *input_and_target(trainer.batch("retain", step)))
    forget, eps_f = method.forget_batch_and_target(trainer, step, "outer")
    return g_r, dsm_gradient(trainer, forget.x_t, eps_f)


@pytest.mark.parametrize("target", ["uniform", "gaussian"])
@pytest.mark.parametrize("inner_steps", [0, 2])
def test_update_is_the_formula(target, inner_steps):
    """The step goes down grad L_r + lambda grad L_f, both taken where the step starts."""
    method = EraseDiff.create({"target": target, "forget_weight": 0.3, "inner_steps": inner_steps})
    trainer = trainer_of(method)
    g_r, g_q = parts(trainer, method)
    gradients = recorded_gradients(trainer)
    method.update(trainer, 0)
    torch.testing.assert_close(gradients[-1], g_r + 0.3 * g_q, rtol=1e-5, atol=1e-6)


def test_gradient_agrees_with_finite_differences(tmp_path):
    """grad L_r + lambda grad L_f is the slope of L_r + lambda L_f along any direction."""
    method = EraseDiff.create({"forget_weight": 0.7, "inner_steps": 0})
    trainer = trainer_of(method)
    trainer.model.double()
    gradients, at = recorded_gradients(trainer), []
    direction = torch.tensor([0.3, -1.0, 0.5, 0.2, 0.9, -0.4], dtype=torch.float64)
    for h in (1e-4, -1e-4):
        shifted = trainer_of(method)
        shifted.model.double()
        moved = torch.split(h * direction, [4, 2])
        with torch.no_grad():
            for parameter, move in zip(shifted.parameters, moved, strict=True):
                parameter.add_(move.view_as(parameter))
        at.append(float(in_double(method, shifted)))
    in_double(method, trainer)
    assert float(gradients[-1] @ direction) == pytest.approx((at[0] - at[1]) / 2e-4, rel=1e-5)


def in_double(method, trainer):
    """The loss of a step on a float64 model."""
    draw = trainer.noised_batches.batch

    def batch(*arguments):
        actual = draw(*arguments)
        return type(actual)(**{k: v if v is None else v.double() for k, v in vars(actual).items()})

    trainer.noised_batches.batch = batch
    return method.update(trainer, 0)


@pytest.mark.parametrize("eta", [0.0, 0.1, 1.5])
def test_cosine_rule(eta):
    """Lambda = max(0, eta - cos(grad L_r, grad q)), of written-out gradients."""
    method = EraseDiff.create({"lambda_rule": "cosine", "eta": eta, "inner_steps": 0})
    trainer = trainer_of(method)
    g_r, g_q = parts(trainer, method)
    expected = max(0.0, eta - float(g_r @ g_q / (g_r.norm() * g_q.norm())))
    method.update(trainer, 0)
    assert float(method.recorded["multiplier"]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_cosine_rule_bounds():
    """Parallel gradients and eta = 0.1 need no lambda; opposite ones get 1.1; zero ones eta."""
    method, g = EraseDiff.create({"lambda_rule": "cosine"}), torch.tensor([3.0, 4.0])
    actual = [float(method.multiplier(g, other)) for other in (2 * g, -g, 0 * g)]
    assert actual == pytest.approx([0.0, 1.1, 0.1])


def test_the_inner_loop_decides_nothing(tmp_path):
    """With moments of its own, K changes no weight: grad q is grad L_f."""
    final_weights = []
    for options in (
        {"inner_steps": 0},
        {"inner_steps": 3},
        {"inner_steps": 2, "inner_interval": 2},
    ):
        trainer = trainer_of(EraseDiff.create(options))
        trainer.run(tmp_path / str(len(final_weights)), ignore_progress)
        final_weights.append(weights(trainer))
    assert torch.equal(final_weights[0], final_weights[1])
    assert torch.equal(final_weights[0], final_weights[2])


def test_shared_moments_are_felt(tmp_path):
    """As released, Adam's moments carry the inner gradients to the outer step."""
    final_weights = []
    for moments in ("own", "shared"):
        trainer = trainer_of(EraseDiff.create({"adam_moments": moments}))
        trainer.run(tmp_path / moments, ignore_progress)
        final_weights.append(weights(trainer))
    assert not torch.equal(*final_weights)


def test_q_is_what_the_inner_loop_gained():
    """Q = L_f(theta) - L_f(theta^K) on the outer batch: positive, and more of it with larger K."""
    actual = []
    for K in (1, 20, 60):
        method = EraseDiff.create({"inner_steps": K})
        method.update(trainer_of(method), 0)
        actual.append(float(method.recorded["q"]))
    assert 0 < actual[0] < actual[1] < actual[2]


def test_targets_are_independent_of_the_noise():
    """eps_f is uniform on [0, 1) or normal, and x_t is built from another, Gaussian noise."""
    for target, mean, std in (("uniform", 0.5, 12**-0.5), ("gaussian", 0.0, 1.0)):
        method = EraseDiff.create({"target": target})
        trainer = trainer_of(method, batch_size=4000)
        batch, eps_f = method.forget_batch_and_target(trainer, 0, "outer")
        assert float(eps_f.mean()) == pytest.approx(mean, abs=0.03)
        assert float(eps_f.std()) == pytest.approx(std, abs=0.03)
        correlation = torch.corrcoef(torch.stack([eps_f.flatten(), batch.eps.flatten()]))[0, 1]
        assert abs(float(correlation)) < 0.05
        assert float(batch.eps.mean()) == pytest.approx(0.0, abs=0.05)


def test_noise_in_input_is_the_target():
    """As released: x_t = a x0 + sigma u with the u in [0, 1) that is to be predicted."""
    method = EraseDiff.create({"noise_in_input": True})
    trainer = trainer_of(method)
    batch, eps_f = method.forget_batch_and_target(trainer, 0, "outer")
    _, sigma = trainer.model.process.marginal(batch.t)
    torch.testing.assert_close((batch.x_t - batch.x0) / sigma[:, None], eps_f, rtol=0, atol=1e-4)
    assert float(eps_f.min()) >= 0
    assert float(eps_f.max()) < 1


def test_learning_the_forget_data_is_refused():
    """Gaussian noise in x_t that is to be predicted is denoising score matching on D_f."""
    method = EraseDiff.create({"target": "gaussian", "noise_in_input": True})
    trainer = trainer_of(method)
    batch, eps_f = method.forget_batch_and_target(trainer, 0, "outer")
    assert torch.equal(batch.eps, eps_f)
    assert "D_f is learned" in method.skip(trainer.model, "finetune")


def test_defaults():
    """The fixed lambda of 0.1, eta 0.1, K = 2, the target of the model, noise in it alone."""
    c = EraseDiff.create().options
    assert (c.lambda_rule, c.forget_weight, c.eta, c.inner_steps, c.target) == (
        "fixed",
        0.1,
        0.1,
        2,
        "auto",
    )
    assert (c.noise_in_input, c.adam_moments) == (False, "own")


@pytest.mark.parametrize("preset", ["full", "paper"])
def test_published_budget(preset):
    """Steps, batch, learning rate and average of the released configuration, and no warm-up."""
    actual = budget("erasediff", preset)
    assert (actual.steps, actual.batch_size, actual.learning_rate) == (288, 128, 1e-4)
    released = preset == "paper"
    assert (actual.ema_decay, actual.warmup_steps, actual.lr_schedule) == (0.99, 0, "constant")
    assert (actual.max_grad_norm, actual.use_ema_warmup) == (
        (1e9, False) if released else (1.0, True)
    )
    assert not actual.continue_optimizer


def test_inner_epochs_are_passes_through_the_forget_data():
    """Two epochs of 12 items in batches of 8 are four steps, whatever inner_steps is."""
    method = EraseDiff.create({"inner_epochs": 2, "inner_steps": 7})
    trainer = trainer_of(method)
    counts, original = [], trainer.minimise
    trainer.minimise = lambda loss, *rest: counts.append(1) or original(loss, *rest)
    method.update(trainer, 0)
    assert len(counts) == 4


@pytest.mark.parametrize("clip", [0.05, 1e6])
def test_only_the_outer_gradient_is_clipped(clip, tmp_path):
    """outer_max_grad_norm bounds the outer gradient, and leaves short gradients as they are."""
    method = EraseDiff.create({"outer_max_grad_norm": clip, "forget_weight": 0.3, "inner_steps": 0})
    trainer = trainer_of(method)
    g_r, g_q = parts(trainer, method)
    gradients = recorded_gradients(trainer)
    method.update(trainer, 0)
    g = g_r + 0.3 * g_q
    torch.testing.assert_close(gradients[-1], g * min(1.0, clip / float(g.norm())))
    inner = EraseDiff.create(
        {"outer_max_grad_norm": clip, "inner_steps": 3, "adam_moments": "shared"}
    )
    trainer = trainer_of(inner)
    norms, original = [], trainer._move
    trainer._move = lambda *rest: original(*rest) or norms.append(float(trainer.gradient_norm))
    inner.update(trainer, 0)
    assert len(norms) == 4
    assert min(norms[:3]) > 0.05
    assert norms[3] <= clip * 1.001


def test_released_run():
    """paper: two epochs before every 36 steps, shared moments, clipped outside, D_f's dropout."""
    options = EraseDiff.presets["paper"]["method"]
    c = EraseDiff.create(options).options
    assert (c.inner_epochs, c.inner_interval, c.adam_moments) == (2, 36, "shared")
    assert (c.outer_max_grad_norm, c.label_dropout_split, c.forget_weight, c.lambda_rule) == (
        1.0,
        "forget",
        0.1,
        "fixed",
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("forget_weight", -0.1),
        ("eta", 3),
        ("inner_steps", -1),
        ("inner_interval", 0),
        ("target", "relabeled"),
    ],
)
def test_bad_options_are_named(option, value):
    """An option out of range is refused by name."""
    with pytest.raises(OptionError, match=f"option '{option}' of erasediff"):
        EraseDiff.create({option: value})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lambda_rule": "cosine", "adam_moments": "shared", "inner_interval": 2},
        {"target": "uniform", "noise_in_input": True, "inner_steps": 0},
    ],
)
def test_conformance(options):
    """Forget sets differ, resume is exact, nothing leaks."""
    check_method(EraseDiff, options)
