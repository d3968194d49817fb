"""Weights that a method moves by itself: declared and averaged, or an error."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
from matching import Match
from nested import Nested
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from msgm_bench import Batch, Method, Training, dsm_loss
from msgm_bench.errors import DivergenceError, PluginError
from msgm_bench.testing.toy_text import toy_captions, toy_text_model
from msgm_bench.training import NoisedBatches, Runtime, Trainer
from msgm_builtin.methods.baselines import Standard

ROOT = Path(__file__).parents[2]
ITSELF = r"moved weights of session.model by itself: \S+(.|\n)*session.edit"


def silent(*arguments):
    """Hears of progress."""


def back(session, step):
    """Gradients in ``.grad``; the loss."""
    session.model.zero_grad()
    loss = dsm_loss(session.model, session.batch("retain", step))
    loss.backward()
    return loss.detach()


def add(model):
    """In place."""
    with torch.no_grad():
        next(model.parameters()).add_(1.0)


def load(model):
    """By a state."""
    model.load_state_dict({name: w + 1 for name, w in model.state_dict().items()})


def replace(model):
    """By new memory behind the same parameters."""
    vector_to_parameters(parameters_to_vector(model.parameters()) + 1, model.parameters())


def renew(model):
    """By a new parameter in the place of an old one."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight = nn.Parameter(module.weight.detach() + 1)


def own(optimizer, **options):
    """By an optimiser of the method's own."""

    def move(model):
        optimizer(model.parameters(), lr=0.01, **options).step()

    return move


MOVES = {
    "add": add,
    "load": load,
    "replace": replace,
    "renew": renew,
    "sgd": own(torch.optim.SGD),
    "sgd foreach": own(torch.optim.SGD, foreach=True),
    "sgd fused": own(torch.optim.SGD, fused=True),
    "adam fused": own(torch.optim.Adam, fused=True),
    "adamw": own(torch.optim.AdamW),
}


class Undeclared(Match):
    """Moves the weights in one of the ways above, in one of the places where it could."""

    def __init__(self, move, place):
        super().__init__()
        self.move, self.place = move, place

    def setup(self, session):
        """Move here, or nothing."""
        self.at("setup", session)

    def num_preparation_steps(self, session):
        """One unit."""
        return 1

    def preparation_step(self, session, i):
        """Move here, or nothing."""
        self.at("prepare", session)

    def update(self, session, step):
        """Move before a known step, after it, in an inner loop, or declared."""
        if self.place == "inner loop":
            with session.inner_loop():
                self.at("inner loop", session)
        self.at("before", session)
        loss = dsm_loss(session.model, session.batch("retain", step))
        session.minimise(loss)
        self.at("after", session)
        return loss.detach()

    def at(self, place, session):
        """Move, if this is the place."""
        if self.place != place:
            return
        loss = dsm_loss(session.model, session.noised(session.items("retain")[:4], 0))
        loss.backward()
        self.move(session.model.network)


@pytest.mark.parametrize("move", MOVES)
def test_a_move_that_is_not_declared_is_an_error(move, world, tmp_path):
    """Whatever it is made with, the step in which it happens ends the training."""
    made = world(Undeclared(MOVES[move], "after"))
    with pytest.raises(PluginError, match=ITSELF):
        made.trainer.run(tmp_path, silent)
    assert made.trainer.step == 0


@pytest.mark.parametrize("place", ["setup", "prepare", "before"])
def test_wherever_it_happens(place, world, tmp_path):
    """In the set-up, in the preparation, and where a known step follows that would hide it."""
    with pytest.raises(PluginError, match=ITSELF):
        world(Undeclared(add, place)).trainer.run(tmp_path, silent)


def test_an_inner_loop_may_move_as_it_likes(world, tmp_path):
    """What is undone is no move: the weights end as those of plain training, dropout apart."""
    inner, plain = world(Undeclared(add, "inner loop")), world(Undeclared(add, "nowhere"))
    for made in (inner, plain):
        made.model.network.requires_grad_(True)
        for module in made.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    inner.trainer.run(tmp_path / "inner", silent)
    plain.trainer.run(tmp_path / "plain", silent)
    for a, b in zip(inner.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(a, b)


class OwnSGD(Match):
    """SGD of the method's own, declared."""

    name = "own"

    def setup(self, session):
        """The optimiser, with momentum, and what it went through."""
        self.sgd = torch.optim.SGD(session.model.parameters(), lr=0.05, momentum=0.5)
        session.register_state("sgd", self.sgd)
        self.path = []

    def update(self, session, step):
        """One step."""
        loss = back(session, step)
        with session.edit():
            self.sgd.step()
        self.path.append(flat(session.model.network))
        return loss


def flat(network):
    """All weights as one vector."""
    return parameters_to_vector(network.parameters()).detach().clone()


@pytest.mark.parametrize("warmup", [True, False])
def test_declared_moves_are_averaged(warmup, world, tmp_path):
    """The training ends with the average of the method's own way, and not with the start."""
    made = world(OwnSGD(), ema_decay=0.9, use_ema_warmup=warmup)
    mean = flat(made.model.network).double()
    made.trainer.run(tmp_path, silent)
    for n, weights in enumerate(made.trainer.method.path):
        d = min(0.9, (1 + n) / (10 + n)) if warmup else 0.9
        d = 0.0 if warmup and n == 0 else d
        mean = d * mean + (1 - d) * weights.double()
    torch.testing.assert_close(flat(made.model.network).double(), mean, rtol=0, atol=1e-6)
    assert len(made.trainer.method.path) == 6


def test_without_an_average_they_end_as_they_are(world, tmp_path):
    """``ema: 0`` leaves the weights of the last step."""
    made = world(OwnSGD(), ema_decay=0.0)
    made.trainer.run(tmp_path, silent)
    assert torch.equal(flat(made.model.network), made.trainer.method.path[-1])


class Diverges(OwnSGD):
    """Ends beyond all numbers, with a loss that does not say so."""

    def update(self, session, step):
        """A finite loss, and infinite weights."""
        loss = back(session, step)
        with session.edit():
            next(session.model.network.parameters()).mul_(float("inf"))
        return torch.zeros_like(loss)


def test_weights_beyond_all_numbers_are_no_outcome(world, tmp_path):
    """A training of one step whose loss is finite and whose weights are not has diverged."""
    with pytest.raises(DivergenceError, match="not finite"):
        world(Diverges(), steps=1).trainer.run(tmp_path, silent)


class MovesBase(Match):
    """Trains the frozen base a little."""

    needs = frozenset({"retain", "base"})

    def update(self, session, step):
        """Descend, and shift the base."""
        loss = super().update(session, step)
        add(session.base.network)
        return loss


def test_the_base_is_frozen(world, tmp_path):
    """Nothing of it is in a checkpoint: a resumed training would see another one."""
    made = world(Match())
    base = copy.deepcopy(made.model).eval().requires_grad_(False)
    with pytest.raises(PluginError, match=r"session\.base(.|\n)*frozen"):
        world(MovesBase(), base=base).trainer.run(tmp_path, silent)


def test_known_moves_are_no_error(world, tmp_path):
    """Steps, descents, masks and inner loops of the session's own."""
    assert len(world(Nested()).trainer.run(tmp_path, silent).rows) == 6


PAGE = (ROOT / "docs/plugins/methods.md").read_text("utf-8")
BLOCKS = re.findall(r"```python(?: exec)?\n(.*?)```", PAGE, re.S)


@pytest.mark.parametrize("name", ["Restricted", "OwnSGD"])
def test_methods_of_the_documentation_train(name, world, tmp_path):
    """They run as they are written there, and the model moves."""
    (source,) = [block for block in BLOCKS if f"class {name}(" in block]
    namespace = {"Method": Method, "torch": torch, "dsm_loss": dsm_loss}
    exec(source, namespace)
    cls = type(name, (namespace[name],), {"name": name.lower()})
    made = world(cls())
    before = flat(made.model.network)
    made.trainer.run(tmp_path, silent)
    assert not torch.equal(flat(made.model.network), before)
    assert len(made.trainer.log.rows) == 6


# Buffers ----------------------------------------------------------------------------------


class Normed(nn.Module):
    """A network with a batch normalisation."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)

    def forward(self, x, t, condition=None):
        """eps_hat."""
        return self.norm(self.conv(x))


class Shifts(Match):
    """Writes a buffer between two forward passes, then makes one."""

    def update(self, session, step):
        """Shift, and descend."""
        session.model.network.norm.running_mean.add_(1.0)
        return super().update(session, step)


def normed(world, method):
    """The trainer of a network with a batch normalisation."""
    made = world()
    torch.manual_seed(0)
    made.model.network = Normed()
    runtime, labels = made.trainer.runtime, made.trainer.labels
    return Trainer(made.model, method, made.noised_batches, made.budget, runtime, 0, None, labels)


def test_statistics_of_a_forward_pass_are_no_move(world, tmp_path):
    """Batch normalisation goes on counting, and the model ends with its last statistics."""
    trainer = normed(world, Match())
    trainer.run(tmp_path, silent)
    assert int(trainer.model.network.norm.num_batches_tracked) == 6
    assert float(trainer.model.network.norm.running_mean.abs().max()) > 0


def test_buffers_written_by_hand_are_a_move(world, tmp_path):
    """A forward pass that changes them as well does not hide it."""
    with pytest.raises(PluginError, match=r"norm\.running_mean"):
        normed(world, Shifts()).run(tmp_path, silent)


# One noise for two batches ----------------------------------------------------------------


def test_like_shares_times_and_noise(world):
    """t and eps are the other batch's; items, labels and dequantisation are its own."""
    made = world()
    made.trainer.method.needs = frozenset({"retain", "forget"})
    one = made.trainer.batch("retain", 3)
    plain, other = (made.trainer.batch("forget", 3, like=like) for like in (None, one))
    assert torch.equal(other.t, one.t)
    assert torch.equal(other.eps, one.eps)
    assert torch.equal(other.x0, plain.x0)
    assert torch.equal(other.y, plain.y)
    assert not torch.equal(plain.t, one.t)
    assert torch.equal(other.x_t, made.model.process.perturb(other.x0, one.t, one.eps))


def test_like_is_of_the_same_size(world):
    """Three times for four items say nothing."""
    made = world()
    three = made.trainer.noised(made.trainer.items("retain")[:3], 0)
    assert isinstance(three, Batch)
    with pytest.raises(PluginError, match=r"3 items\nallowed: a batch of 4 items"):
        made.trainer.batch("retain", 0, like=three)


def test_a_setup_is_seeded(world, tmp_path):
    """Networks that a set-up makes are the same whatever was drawn before it."""

    class Critic(Match):
        """Has a network of its own."""

        def setup(self, session):
            """Fresh weights."""
            self.critic = nn.Linear(3, 3)

    ends = []
    for burnt in (1, 2):
        made = world(Critic(), steps=1)
        torch.rand(burnt)
        made.trainer.run(tmp_path / str(burnt), silent)
        ends.append(made.trainer.method.critic.weight)
    assert torch.equal(*ends)
    assert issubclass(Critic, Method)


def test_embeddings_of_prompts_are_anew_after_each_step(tmp_path):
    """While a text encoder is trained, what is memoised without gradients is of its new weights."""
    model, data = toy_text_model(), toy_captions()
    seen = []

    class Watch(Standard):
        def update(self, session, step):
            with torch.no_grad():
                now = session.model.prompts.embed(torch.tensor([0]))
                fresh = session.model.prompts.encoder(session.model.prompts.tokens[:1])
            seen.append((now.clone(), fresh))
            return super().update(session, step)

    batches = NoisedBatches({"all": data.train}, model, 0, 8)
    budget = Training(steps=3, batch_size=8, learning_rate=0.1)
    Trainer(model, Watch.create(), batches, budget, Runtime(torch.device("cpu")), 0).run(
        tmp_path, lambda *_: None
    )
    assert not torch.equal(seen[0][0], seen[2][0])
    for now, fresh in seen:
        torch.testing.assert_close(now, fresh)
