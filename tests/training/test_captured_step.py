"""Captured steps: replays are eager steps to the bit, and what cannot be captured runs eagerly."""

from __future__ import annotations

import logging
import os
import signal

import pytest
import torch
from fake_graphs import FakeGraphs
from torch import nn

from msgm_bench import DataStats, LossMethod, Model, Training, VariancePreserving, dsm_loss
from msgm_bench.registry import registry
from msgm_bench.testing import toy_images
from msgm_bench.training import NoisedBatches, Runtime, Trainer
from msgm_bench.training.captured_step import (
    WARM_STEPS,
    CapturedSteps,
    copy_of,
    reason_to_run_eagerly,
    tensors,
)

METHODS = {
    "unseen": {},
    "neggrad": {},
    "ort": {"forget_interval": 3},
    "obt": {"forget_interval": 2, "max_error": 2.0},
    "erase": {"forget_interval": 2},
}
STEPS = 18


def silent(*arguments):
    """A callback of progress that does nothing."""


def method_of(name):
    """A built-in method with its options."""
    return registry().create("methods", name, METHODS[name])


class Dropping(nn.Module):
    """eps_hat of a few weights, with dropout and a buffer."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Linear(17, 8), nn.Linear(8, 16)
        self.drop = nn.Dropout(0.2)
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x_t, t, condition=None):
        """Two layers."""
        h = self.enter(torch.cat([x_t.flatten(1), t[:, None]], dim=1) * self.scale)
        return self.leave(self.drop(h.tanh())).reshape(x_t.shape)


def trainer_of(method, **budget):
    """The real trainer of a small network on toy images."""
    data = toy_images()
    stats = DataStats.of(data)
    torch.manual_seed(1)
    model = Model(Dropping(), VariancePreserving(), stats.codec(-1.0, 1.0), stats.shape)
    retain, forget = data.split(data.train, (0,))
    settings = {"steps": STEPS, "batch_size": 8, "warmup_steps": 2, "ema_decay": 0.9}
    chosen = Training(**settings | budget)
    batches = NoisedBatches({"retain": retain, "forget": forget}, model, 0, chosen.batch_size)
    return Trainer(model, method, batches, chosen, Runtime(torch.device("cpu")), 0)


def capturing(trainer, refuses=""):
    """The fake graphs under a trainer."""
    graphs = FakeGraphs(trainer, refuses)
    trainer.hold_rates_on_device()
    trainer.captured_steps = CapturedSteps(trainer.method, graphs)
    return graphs


def state(trainer):
    """All that a step moves: weights, averages, moments."""
    return [tensor.clone() for tensor in FakeGraphs(trainer).memory()]


def same(first, second):
    """Whether two trainings are in one state, to the bit."""
    pairs = zip(state(first), state(second), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("use_ema_warmup", [True, False])
def test_replays_are_the_eager_training(name, use_ema_warmup, tmp_path):
    """Weights, averages, moments, log and passes to the bit; with dropout, two kinds of steps."""
    budget = {"use_ema_warmup": use_ema_warmup, "lr_schedule": "cosine"}
    eager, captured = (trainer_of(method_of(name), **budget) for _ in range(2))
    graphs = capturing(captured)
    logs = [t.run(tmp_path / str(i), silent).rows for i, t in enumerate((eager, captured))]
    assert logs[0] == logs[1]
    assert same(eager, captured)
    assert eager.passes.thirds == captured.passes.thirds
    kinds = len({captured.method.step_kind(step) for step in range(STEPS)})
    assert graphs.calls.count("capture") == graphs.calls.count("rehearse") == kinds
    assert graphs.calls.count("warm up") == kinds * (WARM_STEPS - 1)
    assert graphs.calls.count("replay") == STEPS - kinds * WARM_STEPS


def test_a_resumed_training_captures_again(tmp_path):
    """Interrupted between two replays and resumed, it ends where the eager one does."""

    def interrupt(step, *arguments):
        if step == 9:
            os.kill(os.getpid(), signal.SIGINT)

    whole = trainer_of(method_of("obt"))
    whole.run(tmp_path / "whole", silent)
    for callback in (interrupt, silent):
        parts = trainer_of(method_of("obt"))
        graphs = capturing(parts)
        try:
            parts.run(tmp_path / "parts", callback)
        except KeyboardInterrupt:
            assert "replay" in graphs.calls
    assert "replay" in graphs.calls
    assert same(whole, parts)
    assert whole.log.rows == parts.log.rows


def test_replays_of_one_kind_leave_the_other_kinds_diagnostics(tmp_path):
    """Losses on D_f in the log are those of the last step that had one."""
    trainer = trainer_of(method_of("ort"))
    capturing(trainer)
    rows = trainer.run(tmp_path, silent).rows
    losses = [row["loss_forget"] for row in rows]
    for step in range(STEPS):
        if step % 3:
            assert losses[step] == losses[step - 1]
        elif step:
            assert losses[step] != losses[step - 1]


@pytest.mark.parametrize("refuses", ["rehearse", "capture"])
def test_a_refused_capture_runs_eagerly(refuses, tmp_path, caplog):
    """The refused step is made once, as an eager one; the log states the reason once."""
    eager, refused = (trainer_of(method_of("ort")) for _ in range(2))
    graphs = capturing(refused, refuses)
    logs = [t.run(tmp_path / str(i), silent).rows for i, t in enumerate((eager, refused))]
    assert logs[0] == logs[1]
    assert same(eager, refused)
    assert graphs.calls.count(refuses) == 1
    assert "replay" not in graphs.calls
    (message,) = [r.getMessage() for r in caplog.records if "one by one" in r.getMessage()]
    assert message.startswith("steps of ort run one by one: ")
    assert "\n" not in message


class Annealed(LossMethod):
    """A loss whose weight shrinks: no two steps are alike, and it states none."""

    name = "annealed"
    needs = frozenset({"retain"})

    def loss(self, model, batches, step):
        """L_g / (1 + step)."""
        return dsm_loss(model, batches.retain) / (1 + step)


class AnnealedOrt(type(method_of("ort"))):
    """Another loss under the kinds of its parent."""

    name = "annealed_ort"

    def loss(self, model, batches, step):
        """L / (1 + step)."""
        return super().loss(model, batches, step) / (1 + step)


class Stepwise(type(method_of("ort"))):
    """An update of its own, which a replay would leave out."""

    name = "stepwise"

    def update(self, session, step):
        """As its parent."""
        return super().update(session, step)


@pytest.mark.parametrize(
    ("cls", "reason"),
    [(Annealed, "step_kind"), (AnnealedOrt, "step_kind"), (Stepwise, "update")],
)
def test_methods_without_kinds_run_eagerly(cls, reason, tmp_path, caplog):
    """A loss that may depend on the step in another way than the kinds is never replayed."""
    caplog.set_level(logging.INFO, "msgm_bench.training")
    trainer = trainer_of(cls.create(), steps=8)
    graphs = capturing(trainer)
    trainer.run(tmp_path, silent)
    assert graphs.calls == []
    assert caplog.text.count("run one by one") == 1
    assert reason in reason_to_run_eagerly(trainer.method)


def test_built_in_methods_with_a_loss_state_kinds():
    """All of them can be captured."""
    cls = [entry.cls for entry in registry().entries("methods")]
    losses = [c for c in cls if issubclass(c, LossMethod)]
    assert {c.name for c in losses} >= {"standard", "finetune", *METHODS}
    assert not [c.name for c in losses if reason_to_run_eagerly(c.create())]


@pytest.mark.parametrize("name", METHODS)
def test_steps_of_one_kind_are_one_function(name):
    """Gradients at equal weights and batches depend on the kind of the step, not on the step."""
    trainer = trainer_of(method_of(name))
    method = trainer.method
    trainer.model.eval()
    batches, gradients = method.draw(trainer, 0), {}
    for step in range(13):
        (gradient,) = trainer.gradients(method.loss(trainer.model, batches, step))
        known = gradients.setdefault(method.step_kind(step), gradient)
        assert torch.equal(gradient, known)


def test_copies_are_of_their_own_memory():
    """Replays read the copy, which holds each tensor of the batches."""
    trainer = trainer_of(method_of("erase"))
    batches = trainer.method.draw(trainer, 0)
    copied = copy_of(batches)
    pairs = list(zip(tensors(batches), tensors(copied), strict=True))
    assert len(pairs) == 2 * 5 + 1
    assert all(torch.equal(a, b) and a.data_ptr() != b.data_ptr() for a, b in pairs)


def test_what_is_captured():
    """Small networks on a GPU, unless compiled; nothing on a CPU."""
    model, cuda = trainer_of(method_of("ort")).model, torch.device("cuda")
    assert Runtime(cuda).captures(model)
    assert not Runtime(cuda, compile=True).captures(model)
    assert not Runtime(torch.device("cpu")).captures(model)
    with torch.device("meta"):
        model.network = torch.nn.Linear(4_000, 4_000)
    assert not Runtime(cuda).captures(model)
