"""The loop: exact resume, schedules, EMA, clipping, divergence, interruption."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from matching import Match
from torch import nn

from msgm_bench import Data, Examples, Method, dsm_loss
from msgm_bench.errors import DivergenceError, IncompatibleError, PluginError, StorageError
from msgm_bench.training import checkpoint, generators
from msgm_bench.training import trainer as training

CPU = torch.device("cpu")


def silent(*arguments):
    """Hears of progress."""


def weights(model):
    """A copy of all weights."""
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def equal(first, second):
    """Whether two sets of weights are equal to the bit."""
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def interrupt_at(step):
    """Asks for a stop, as Ctrl-C does, when ``step`` is done."""

    def on_step(done, total, values):
        if done == step:
            os.kill(os.getpid(), signal.SIGINT)

    return on_step


class Kept(Method):
    """A method with a second network and an optimiser of its own, which checkpoints must keep."""

    name = "kept"
    needs = frozenset({"retain"})

    def setup(self, session):
        """Build both."""
        self.critic = nn.Linear(1, 1)
        nn.init.constant_(self.critic.weight, 1.0)
        nn.init.constant_(self.critic.bias, 0.0)
        self.descent = torch.optim.Adam(self.critic.parameters(), lr=0.1)
        session.register_state("critic", self.critic)
        session.register_state("descent", self.descent)

    def update(self, session, step):
        """Both learn."""
        loss = dsm_loss(session.model, session.batch("retain", step))
        judged = self.critic(loss.detach().reshape(1, 1)).square().sum()
        self.descent.zero_grad()
        judged.backward()
        self.descent.step()
        session.minimise(loss * (1 + self.critic.weight.detach().squeeze()))
        return loss.detach()


@pytest.mark.parametrize("method", [Match, Kept])
@pytest.mark.parametrize("stop", [1, 3, 5, 6])
def test_resume_is_exact(method, stop, world, tmp_path):
    """A U-Net with dropout and EMA that was stopped ends bit-identical to one that was not."""
    whole = world(method())
    log = whole.trainer.run(tmp_path / "whole", silent)
    first = world(method())
    with pytest.raises(KeyboardInterrupt):
        first.trainer.run(tmp_path / "parts", interrupt_at(stop))
    assert first.trainer.step == stop
    torch.rand(7)  # the process's own random state plays no part
    second = world(method())
    steps = []
    resumed = second.trainer.run(tmp_path / "parts", lambda step, *_: steps.append(step))
    assert steps == list(range(stop + 1, 7))
    assert equal(weights(second.model), weights(whole.model))
    assert resumed.rows == log.rows


def test_dropout_is_on_and_seeded(world, tmp_path):
    """Training with dropout depends on the seed of the stage and leaves the generator alone."""
    seen = []
    for dropout_seed in (0, 0, 1):
        made = world()
        made.trainer.seed = dropout_seed
        torch.manual_seed(9)
        before = torch.get_rng_state()
        made.trainer.run(tmp_path / f"{len(seen)}", silent)
        assert torch.equal(torch.get_rng_state(), before)
        seen.append(weights(made.model))
        assert not made.model.training
    assert equal(seen[0], seen[1])
    assert not equal(seen[0], seen[2])


def test_checkpoints_are_taken_by_the_clock(world, tmp_path, monkeypatch):
    """After so many seconds, and not at every step."""
    made, stored = world(), []
    monkeypatch.setattr(made.trainer, "store", stored.append)
    made.trainer.run(tmp_path, silent)
    assert stored == []
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    made = world()
    monkeypatch.setattr(made.trainer, "store", stored.append)
    made.trainer.run(tmp_path, silent)
    assert stored == [tmp_path] * 6


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_ema(ema, world, tmp_path):
    """The model ends with averaged weights of decay min(ema, (1 + n)/(10 + n)), or raw ones."""
    made, seen = world(ema_decay=ema), []
    average = made.trainer.minimise

    def minimise(*arguments):
        average(*arguments)
        seen.append(weights(made.model))

    made.trainer.minimise = minimise
    made.trainer.run(tmp_path, silent)
    expected = seen[0]
    for n, raw in enumerate(seen[1:], 1):
        decay = min(ema, (1 + n) / (10 + n)) if ema else 0.0
        expected = {
            name: decay * expected[name] + (1 - decay) * raw[name]
            if raw[name].is_floating_point()
            else raw[name]
            for name in raw
        }
    for name, value in weights(made.model).items():
        torch.testing.assert_close(value, expected[name])


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({"warmup_steps": 0}, [1, 1, 1, 1, 1, 1]),
        ({"warmup_steps": 3}, [1 / 3, 2 / 3, 1, 1, 1, 1]),
        ({"warmup_steps": 2, "lr_schedule": "cosine"}, [0.5, 1, 1, 0.8535534, 0.5, 0.1464466]),
    ],
)
def test_learning_rate(budget, expected, world, tmp_path):
    """Linear warm-up, then constant or half a cosine; what is logged is what was used."""
    made = world(learning_rate=1e-3, **budget)
    log = made.trainer.run(tmp_path, silent)
    rates = [row["learning_rate"] / 1e-3 for row in log.rows]
    assert rates == pytest.approx(expected, abs=1e-6)


def test_gradients_are_transformed_then_clipped(world):
    """The transform sees raw gradients, the optimiser sees at most ``clip``."""
    made = world(max_grad_norm=0.5, ema_decay=0.0)
    norms = []

    def transform(model):
        norms.append(float(nn.utils.get_total_norm([p.grad for p in model.parameters()])))
        for parameter in model.parameters():
            parameter.grad.mul_(1000)

    loss = dsm_loss(made.model, made.noised_batches.batch("retain", 0))
    made.trainer.minimise(loss, transform)
    after = nn.utils.get_total_norm([p.grad for p in made.model.parameters()])
    assert float(made.trainer.gradient_norm) == pytest.approx(1000 * norms[0], rel=1e-4)
    assert float(after) == pytest.approx(0.5, rel=1e-3)


class Blows(Match):
    """NaN from some step on."""

    name = "blows"

    def loss(self, model, batches, step):
        """The loss."""
        loss = dsm_loss(model, batches.retain)
        return loss * float("nan") if step >= 4 else loss


def test_nan_stops_and_keeps_the_last_sound_checkpoint(world, tmp_path, monkeypatch):
    """A NaN is an error that names step and quantity; no checkpoint of it is ever stored."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    made = world(Blows())
    with pytest.raises(DivergenceError, match="at step 5: loss, gradient_norm is not finite"):
        made.trainer.run(tmp_path, silent)
    assert len(made.trainer.log.rows) == 5
    state = checkpoint.load(tmp_path, CPU)
    assert state["step"] == 4
    assert all(torch.isfinite(value).all() for value in state["network"].values())


def test_a_nan_between_two_looks_is_not_stored(world, tmp_path, monkeypatch):
    """Between logged steps nobody waits for the device, but no checkpoint is taken either."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(training, "LOGGED_ROWS", 1)
    made = world(Blows())
    with pytest.raises(DivergenceError, match="at step 6"):
        made.trainer.run(tmp_path, silent)
    assert checkpoint.load(tmp_path, CPU)["step"] == 4


def test_undeclared_splits_are_refused(world):
    """A method reads only what it declares in ``needs``."""
    with pytest.raises(PluginError, match="'match' reads the split 'forget'\nallowed: it declares"):
        world().trainer.batch("forget", 0)


def test_an_undeclared_base_is_refused(world):
    """``session.base`` is a model or an error, never None."""
    with pytest.raises(PluginError, match="'match' reads the base model"):
        _ = world().trainer.base


def test_a_method_knows_the_classes_and_needs_no_item_for_it(world):
    """Which classes are forgotten and which are kept is told to whoever may depend on it."""
    trainer = world(Match()).trainer
    assert (trainer.forget_labels, trainer.retain_labels) == ((1,), (0,))


def test_what_all_forget_sets_share_knows_no_classes(world):
    """A method that reads all of D is trained once for every forget set."""

    class Whole(Match):
        """Needs all of D."""

        name = "whole"
        needs = frozenset({"all", "base"})

    with pytest.raises(PluginError, match="'whole' reads the classes to forget"):
        assert world(Whole()).trainer.forget_labels


def test_attributes_are_no_classes(world):
    """Where items carry attributes, no forget set is made of classes."""
    trainer = world(Match()).trainer
    y = torch.eye(4, dtype=torch.bool)
    items = Examples(torch.zeros(4, 2), y)
    trainer.labels = Data(items, items, tuple("abcd")).labels((1,))
    with pytest.raises(IncompatibleError, match="'match' reads the classes to forget"):
        assert trainer.retain_labels


def test_setup_must_keep_the_same_names(world, tmp_path):
    """A checkpoint that keeps other things than the method is no checkpoint of it."""
    with pytest.raises(KeyboardInterrupt):
        world(Kept()).trainer.run(tmp_path, interrupt_at(2))
    with pytest.raises(StorageError, match="register the same states"):
        world(Match()).trainer.run(tmp_path, silent)


def test_interrupts_are_handed_back(world, tmp_path):
    """After training Ctrl-C does what it did before, and twice stops at once."""
    before = signal.getsignal(signal.SIGINT)
    world().trainer.run(tmp_path / "a", silent)
    assert signal.getsignal(signal.SIGINT) is before

    def twice(done, total, values):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    made = world()
    with pytest.raises(KeyboardInterrupt):
        made.trainer.run(tmp_path / "b", twice)
    assert made.trainer.step == 1
    assert not (tmp_path / "b" / checkpoint.NAME).exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_steps_seed_as_manual_seed_does():
    """Dropout draws what it draws after ``torch.manual_seed``."""
    torch.manual_seed(2**62 + 7)
    expected = torch.rand(5)
    generators.seed_device(2**62 + 7, torch.device("cpu"))
    assert torch.equal(torch.rand(5), expected)
