"""The losses of Obtuse and Orthogonal on numbers that can be checked by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from msgm_bench import (
    Batch,
    Batches,
    DataStats,
    DivergenceError,
    Examples,
    IdentityCodec,
    Model,
    OptionError,
    Training,
    VarianceExploding,
)
from msgm_bench.training.batches import NoisedBatches
from msgm_bench.training.runtime import Runtime
from msgm_bench.training.trainer import Trainer
from msgm_builtin.backbones.vesde import VESDE
from msgm_builtin.methods.baselines import Unseen
from msgm_builtin.methods.erase import Erase
from msgm_builtin.methods.msgm import Obtuse, Orthogonal
from msgm_builtin.methods.msgm_base import MSGM

EPS_HAT = torch.tensor([[1.0, 2.0], [-3.0, 1.0]])
EPS = torch.tensor([[3.0, -1.0], [1.0, 2.0]])
# Products: (3, -2) and (-3, 2); inner products 1 and -1, over D = 2: 1/2 and -1/2.
# Squared gaps: (4 + 9)/2 = 6.5 and (16 + 1)/2 = 8.5; |eps_hat|^2/D: 2.5 and 5.


class Constant(nn.Module):
    """Predicts ``value`` everywhere."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value)

    def forward(self, x_t: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """``value`` for every item."""
        return self.value.expand_as(x_t)


def model(value: Tensor) -> Model:
    """A model that predicts ``value``."""
    return Model(Constant(value), VarianceExploding(), IdentityCodec(), (2,))


def batch(eps: Tensor) -> Batch:
    """A batch with this noise; nothing else of it is read."""
    t = torch.full((len(eps),), 0.5)
    return Batch(torch.zeros_like(eps), t, eps, eps, torch.zeros(len(eps), dtype=torch.long))


RETAIN = batch(torch.tensor([[1.0, 1.0], [0.0, 2.0]]))
FORGET = batch(EPS)
BATCHES = Batches("msgm", {"retain": RETAIN, "forget": FORGET})
AT = torch.tensor([1.0, 2.0])
# At (1, 2): L_g = (0 + 1 + 1 + 0)/4 = 1/2; inner products 1 and 5, over D 1/2 and 5/2;
# squared products 9, 4, 1, 16.


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        (Orthogonal, {}, 0.25),
        (Orthogonal, {"product": "elementwise"}, 6.5),
        (Obtuse, {}, 0.0),
        (Obtuse, {"norm_weight": 2.0}, 7.5),
        (Obtuse, {"hinge": 0.25}, 0.125),
        (Obtuse, {"hinge": 0.75}, 0.0),
        (Obtuse, {"use_cosine": True}, (1 / math.sqrt(50) - 1 / math.sqrt(50)) / 2),
        (Obtuse, {"sign": "released", "hinge": 0.25}, 0.125),
        (Obtuse, {"max_error": 7.0}, 0.0),
    ],
)
def test_forget_loss_by_hand(
    method: type[MSGM], options: Mapping[str, Any], expected: float
) -> None:
    """L_f of two items in two dimensions is the number worked out on paper."""
    loss = method.create(options).forget_loss(EPS_HAT, EPS)
    torch.testing.assert_close(loss, torch.tensor(expected))


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        (Orthogonal, {}, 3.25),
        (Orthogonal, {"product": "elementwise"}, 7.5),
        (Obtuse, {}, 1.5),
        (Obtuse, {"sign": "released"}, -1.5),
        (Obtuse, {"use_cosine": True}, (1 / math.sqrt(50) + 5 / 5) / 2),
        (Obtuse, {"norm_weight": 0.5}, 2.75),
    ],
)
def test_whole_loss_by_hand(
    method: type[MSGM], options: Mapping[str, Any], expected: float
) -> None:
    """The loss is alpha L_g + (1 - alpha) L_f, with L_g = 1/2 and L_f worked out on paper."""
    made = method.create({"alpha": 0.75, **options})
    loss = made.loss(model(AT), BATCHES, 0)
    torch.testing.assert_close(loss, torch.tensor(0.75 * 0.5 + 0.25 * expected))


@pytest.mark.parametrize("repeat", [1, 3, 16])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        (Orthogonal, {}),
        (Orthogonal, {"product": "elementwise"}),
        (Obtuse, {}),
        (Obtuse, {"use_cosine": True}),
        (Obtuse, {"norm_weight": 0.5}),
    ],
)
def test_forget_loss_does_not_depend_on_the_resolution(
    method: type[MSGM], options: Mapping[str, Any], repeat: int
) -> None:
    """Repeating every dimension, in any shape of item, leaves L_f: it is a mean over D."""
    made = method.create(options)
    tall = [v[:, :, None, None].expand(-1, -1, repeat, 2) for v in (EPS_HAT, EPS)]
    torch.testing.assert_close(made.forget_loss(*tall), made.forget_loss(EPS_HAT, EPS))


@pytest.mark.parametrize("step", [0, 1, 4])
def test_erase_is_the_weighted_sum(step: int) -> None:
    """0.99 |eps_hat - eps|^2/D on D_g; at every 4th step + 0.01 |eps_hat - u|^2/D, u ~ U[0, 1)."""
    made = Erase.create()
    trainer = plane(made)
    losses = []
    trainer.minimise = lambda loss, *rest: losses.append(float(loss.detach()))  # type: ignore[method-assign]
    made.update(trainer, step)
    retain, forget = trainer.batch("retain", step), trainer.batch("forget", step)
    expected = 0.99 * float((AT - retain.eps).square().mean())
    u = made.target(made.draw(trainer, step))
    if step % 4 == 0:
        expected += 0.01 * float((AT - u).square().mean())
    assert losses == pytest.approx([expected], rel=1e-5)
    assert u.shape == forget.eps.shape
    assert not torch.equal(made.target(made.draw(trainer, step + 1)), u), "the draw is the step's"


def test_the_target_of_erase_is_uniform_and_independent() -> None:
    """u is U[0, 1) in mean, spread and range, and does not go with the noise in x_t."""
    made = Erase.create()
    trainer = plane(made, batch_size=4000)
    u, eps = made.target(made.draw(trainer, 0)), trainer.batch("forget", 0).eps
    assert (float(u.min()), float(u.max())) == pytest.approx((0, 1), abs=0.01)
    assert float(u.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(u.std()) == pytest.approx(12**-0.5, abs=0.02)
    assert abs(float(torch.corrcoef(torch.stack([u.flatten(), eps.flatten()]))[0, 1])) < 0.05


def plane(made: MSGM, batch_size: int = 8) -> Trainer:
    """The real trainer of a constant prediction at (1, 2) in the plane."""
    world = model(AT.clone())
    budget = Training(steps=8, batch_size=batch_size, ema_decay=0.0)
    items = Examples(torch.zeros(12, 2), torch.zeros(12, dtype=torch.long))
    noised_batches = NoisedBatches({"retain": items, "forget": items}, world, 0, batch_size)
    return Trainer(world, made, noised_batches, budget, Runtime(torch.device("cpu")), 0)


def test_released_sign_is_the_opposite() -> None:
    """The released code's L_f is minus equation 8's, and so are its gradients."""
    gradients = {}
    for sign in ("paper", "released"):
        value = EPS_HAT.clone().requires_grad_()
        loss = Obtuse.create({"sign": sign}).forget_loss(value, EPS)
        (gradients[sign],) = torch.autograd.grad(loss, value)
    torch.testing.assert_close(gradients["paper"], EPS / 4)
    assert torch.equal(gradients["released"], -gradients["paper"])


@pytest.mark.parametrize(
    ("options", "pushed"),
    [
        ({}, (True, True)),
        ({"hinge": 0.75}, (True, True)),
        ({"hinge": 0.25}, (True, False)),
        ({"sign": "released", "hinge": 0.25}, (False, True)),
        ({"max_error": 9.0}, (True, True)),
        ({"max_error": 7.0}, (True, False)),
        ({"max_error": 6.0}, (False, False)),
    ],
)
def test_stabilisers_stop_single_items(
    options: Mapping[str, Any], pushed: tuple[bool, bool]
) -> None:
    """Past hinge or max_error an item has no gradient, and the other items keep theirs whole."""
    value = EPS_HAT.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Obtuse.create(options).forget_loss(value, EPS), value)
    sign = -1 if options.get("sign") == "released" else 1
    expected = sign * EPS / 4 * torch.tensor(pushed)[:, None]
    assert torch.equal(gradient, expected)


def test_norm_weight_adds_to_a_stopped_item() -> None:
    """|eps_hat|^2/D pulls every item back, even one that hinge or max_error has stopped."""
    value = EPS_HAT.clone().requires_grad_()
    made = Obtuse.create({"max_error": 6.0, "norm_weight": 0.5})
    (gradient,) = torch.autograd.grad(made.forget_loss(value, EPS), value)
    torch.testing.assert_close(gradient, EPS_HAT / 4)


def test_half_norm_weight_mirrors_the_score_of_the_forget_data() -> None:
    """On D_f alone, weight beta puts the minimum at -eps / (2 beta): 1/2 is a reflection."""
    for beta in (0.25, 0.5, 2.0):
        value = (-EPS / (2 * beta)).requires_grad_()
        made = Obtuse.create({"norm_weight": beta})
        (gradient,) = torch.autograd.grad(made.forget_loss(value, EPS), value)
        torch.testing.assert_close(gradient, torch.zeros_like(EPS))


@pytest.mark.parametrize("method", [Orthogonal, Obtuse])
@pytest.mark.parametrize("forget_interval", [1, 2, 4])
def test_forget_loss_enters_at_every_so_many_steps(
    method: type[MSGM], forget_interval: int
) -> None:
    """Steps 0, k, 2 k, ... have L_f; the others are alpha L_g alone."""
    made = method.create({"alpha": 0.75, "forget_interval": forget_interval})
    losses = [made.loss(model(AT), BATCHES, step).item() for step in range(8)]
    full = 0.75 * 0.5 + 0.25 * (3.25 if method is Orthogonal else 1.5)
    assert losses == pytest.approx([0.375 if step % forget_interval else full for step in range(8)])


@pytest.mark.parametrize("method", [Orthogonal, Obtuse])
def test_defaults_are_the_papers(method: type[MSGM]) -> None:
    """alpha = 0.99, L_f at every fourth step, equation 7's product, equation 8's sign."""
    options = method.create().options
    assert (options.alpha, options.forget_interval) == (0.99, 4)
    stated = options.product if method is Orthogonal else options.sign
    assert stated == ("inner" if method is Orthogonal else "paper")
    if method is Obtuse:
        assert (options.use_cosine, options.hinge, options.max_error) == (False, None, None)
        assert options.norm_weight == 0


@pytest.mark.parametrize("method", [Orthogonal, Obtuse])
def test_alpha_one_is_unseen(method: type[MSGM]) -> None:
    """With alpha = 1 loss and gradient equal unseen's, bit for bit, at every step."""
    made, unseen = method.create({"alpha": 1.0}), Unseen.create()
    for step in range(5):
        ours, theirs = model(AT.clone()), model(AT.clone())
        loss = made.loss(ours, BATCHES, step)
        expected = unseen.loss(theirs, BATCHES, step)
        loss.backward()
        expected.backward()
        assert torch.equal(loss, expected)
        assert torch.equal(ours.network.value.grad, theirs.network.value.grad)


@pytest.mark.parametrize("method", [Orthogonal, Obtuse])
def test_diagnostics_are_recorded(method: type[MSGM]) -> None:
    """Both losses, |eps_hat|^2/D and the cosine on D_f are there, detached, and as by hand."""
    made = method.create({"forget_interval": 2})
    made.loss(model(AT), BATCHES, 1)
    assert made.recorded == {}
    made.loss(model(AT), BATCHES, 2)
    expected = {
        "loss_retain": 0.5,
        "loss_forget": 3.25 if method is Orthogonal else 1.5,
        "norm_forget": 2.5,
        "cosine_forget": (1 / math.sqrt(50) + 1) / 2,
    }
    assert {name: float(value) for name, value in made.recorded.items()} == pytest.approx(expected)
    assert not any(value.requires_grad for value in made.recorded.values())


@pytest.mark.parametrize("method", [Orthogonal, Obtuse])
def test_check_raises_divergence(method: type[MSGM]) -> None:
    """A norm above abort_norm stops the run with a message that names value, bound and remedy."""
    made = method.create({"abort_norm": 100.0})
    made.check({"norm_forget": 100.0})
    made.check({})
    with pytest.raises(DivergenceError) as caught:
        made.check({"norm_forget": 123.0})
    assert "123" in caught.value.what
    assert "abort_norm = 100" in caught.value.allowed
    assert "alpha" in caught.value.hint


def test_trainer_stops_an_exploding_score(tmp_path: Path) -> None:
    """Obtuse at a tiny alpha is stopped by the trainer before its budget ends."""
    generator = torch.Generator().manual_seed(0)
    splits = {
        name: Examples(torch.randn(64, 2, generator=generator), torch.zeros(64, dtype=torch.long))
        for name in ("retain", "forget")
    }
    info = DataStats(shape=(2,), levels=None, nll_offset=0.0, std=1.0, max_distance=5.0)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        trained = VESDE.create({"width": 16, "depth": 1}).build(info)
    budget = Training(steps=400, batch_size=64, learning_rate=0.05, max_grad_norm=1e9)
    method = Obtuse.create({"alpha": 0.001, "forget_interval": 1, "abort_norm": 50.0})
    noised_batches = NoisedBatches(splits, trained, 0, budget.batch_size)
    trainer = Trainer(trained, method, noised_batches, budget, Runtime(torch.device("cpu")), 0)
    with pytest.raises(DivergenceError, match="forget data"):
        trainer.run(tmp_path, lambda *_: None)
    assert trainer.step < budget.steps
    assert trainer.log.rows[-1]["norm_forget"] > 50


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        (Orthogonal, "alpha", 0.0),
        (Orthogonal, "alpha", 1.01),
        (Obtuse, "alpha", -0.5),
        (Obtuse, "alpha", float("nan")),
        (Obtuse, "forget_interval", 0),
        (Orthogonal, "forget_interval", 1.5),
        (Obtuse, "abort_norm", 0.0),
        (Orthogonal, "product", "outer"),
        (Obtuse, "sign", "plus"),
        (Obtuse, "hinge", 0.0),
        (Obtuse, "max_error", -1.0),
        (Obtuse, "norm_weight", -0.1),
        (Obtuse, "product", "inner"),
        (Orthogonal, "hinge", 1.0),
    ],
)
def test_bad_options_are_named(method: type[MSGM], option: str, value: object) -> None:
    """An option out of range, or of the other variant, raises and is named."""
    with pytest.raises(OptionError) as caught:
        method.create({option: value})
    assert f"{option!r}" in caught.value.what
    assert method.name in caught.value.what
