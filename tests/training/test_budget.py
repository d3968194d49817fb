"""A budget in passes through the network, the same for every method."""

from __future__ import annotations

import math
import os
import signal

import pytest
import torch
from matching import Match
from nested import Nested

from msgm_bench.errors import OptionError, PluginError

PREPARED, STEP = 3, 1 + 2 + 1 / 3 + 1  # of Nested, as its own test counts them


def silent(*arguments):
    """Hears of progress."""


def weights(made):
    """All weights as one vector."""
    return torch.cat([p.detach().reshape(-1) for p in made.trainer.parameters])


def test_a_pass_a_step_is_a_budget_of_steps(world, tmp_path):
    """Same steps, same learning rates down to the end of the cosine, same losses."""
    steps = world(Match(), steps=40, lr_schedule="cosine").trainer.run(tmp_path / "steps", silent)
    passes = world(Match(), passes=40, lr_schedule="cosine").trainer.run(
        tmp_path / "passes", silent
    )
    assert len(passes.rows) == 40
    for row, expected in zip(passes.rows, steps.rows, strict=True):
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_the_budget_ends_with_the_step_that_reaches_it(world, tmp_path):
    """Preparation, further networks and inner loops count."""
    rows = world(Nested(), steps=99, passes=12).trainer.run(tmp_path, silent).rows
    expected = [PREPARED + n * STEP for n in (1, 2, 3)]
    assert [row["passes"] for row in rows] == pytest.approx(expected)
    assert expected[1] < 12 <= expected[2]


def test_the_cosine_ends_with_the_budget_whatever_the_preparation_took(world, tmp_path):
    """As many steps as are left after it, drawn over half a cosine."""
    options = {"warmup_steps": 0, "lr_schedule": "cosine", "learning_rate": 1.0}
    budget = math.ceil(PREPARED + 3 * STEP)
    rows = world(Nested(), passes=budget, **options).trainer.run(tmp_path, silent).rows
    left = (budget - PREPARED) / STEP
    expected = [0.5 * (1 + math.cos(math.pi * k / left)) for k in range(len(rows))]
    assert [row["learning_rate"] for row in rows][1:] == pytest.approx(expected[1:], rel=1e-6)


def test_resume_is_exact(world, tmp_path):
    """The budget goes on from the passes that the checkpoint has counted."""
    options = {"passes": 14, "lr_schedule": "cosine"}
    whole = world(Nested(), **options)
    log = whole.trainer.run(tmp_path / "whole", silent)

    def stop(step, total, values, part=""):
        if step == 2 and not part:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        world(Nested(), **options).trainer.run(tmp_path / "parts", stop)
    resumed = world(Nested(), **options)
    assert resumed.trainer.run(tmp_path / "parts", silent).rows == log.rows
    assert torch.equal(weights(resumed), weights(whole))


class Idle(Match):
    """A method whose steps evaluate no network."""

    def update(self, session, step):
        """Pull the weights a little towards zero."""
        loss = sum(p.square().sum() for p in session.model.parameters())
        session.minimise(loss)
        return loss.detach()


def test_steps_without_a_pass_would_never_end(world, tmp_path):
    """They are refused after the first, with what counts."""
    with pytest.raises(PluginError, match="makes no pass through a network that is counted"):
        world(Idle(), passes=2).trainer.run(tmp_path, silent)


def test_a_preparation_that_takes_every_pass_is_refused(world, tmp_path):
    """Nothing would have been unlearned: the error says what the preparation takes."""
    with pytest.raises(OptionError, match=r"takes all 2 passes(.|\n)*more than 3 passes"):
        world(Nested(), passes=2).trainer.run(tmp_path, silent)
