"""Models that say how they must be asked: over preset and user, with the model, in the result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch

from msgm_bench import DataStats, RunSpec, UsageError
from msgm_bench.experiment.model_card import CARD, Limits, read_card
from msgm_bench.experiment.model_io import save_model
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.skipped import reasons
from msgm_bench.registry import registry
from msgm_bench.testing import ToyBackbone, toy_images
from msgm_builtin.methods.baselines import Unseen

SPEC = RunSpec(dataset="gaussians", forget="middle", backbone="vesde", method="unseen")
DEMANDS = {"generation": {"sampler": "heun", "nfe": 7}, "nobody's": {"nfe": 1}}


class Particular(Unseen):
    """Makes models that have no likelihood, and that seven evaluations draw from."""

    unsupported_tasks: ClassVar[Mapping[str, str]] = {
        "likelihood": "it was lost",
        "nobody's": "nor this",
    }

    def required_task_options(self, model):
        """Heun's method."""
        return DEMANDS

    def check_data(self, data, targets):
        """Never forgets the left cloud."""
        if 0 in targets:
            raise UsageError("the left cloud")


@pytest.fixture
def particular(monkeypatch):
    """``unseen`` is particular."""
    entry = registry().entry("methods", "unseen")
    monkeypatch.setattr(entry.cls, "unsupported_tasks", Particular.unsupported_tasks)
    monkeypatch.setattr(entry.cls, "required_task_options", Particular.required_task_options)
    monkeypatch.setattr(entry.cls, "check_data", Particular.check_data)


def test_demands_lie_over_preset_and_user(particular):
    """The user's sampler goes with its options, the user's sizes stay; other tasks are ignored."""
    asked = {
        "generation": {"sampler": "pc", "nfe": 30, "sampler_options": {"snr": 0.2}, "count": 64}
    }
    c = (
        resolve(SPEC.model_copy(update={"task_params": asked}))
        .evaluation.tasks["generation"]
        .options
    )
    assert (c.sampler, c.nfe, dict(c.sampler_options), c.count) == ("heun", 7, {}, 64)


def test_lost_tasks_are_left_out_with_the_methods_reason(particular):
    """Among the tasks of the plan, beside those that do not suit the data."""
    plan = resolve(SPEC)
    skipped = reasons(plan.evaluation.skipped, "tasks")
    assert skipped["likelihood"] == "it was lost"
    assert "nobody's" not in skipped
    assert "likelihood" not in plan.evaluation.tasks
    assert "nll" not in {metric.name for metric in plan.evaluation.metrics}


def test_a_forget_set_is_refused_before_training(particular):
    """By the method itself; one that it can forget passes."""
    left = resolve(SPEC).data.classes[0]
    with pytest.raises(UsageError, match="the left cloud"):
        resolve(SPEC.model_copy(update={"forget": (left,)}))


def test_limits_travel_with_the_model(tmp_path):
    """The card holds them, and what evaluates the folder asks accordingly."""
    backbone, info = ToyBackbone.create(), DataStats.of(toy_images())
    torch.manual_seed(0)
    limits = Limits("particular", Particular.unsupported_tasks, DEMANDS)
    save_model(tmp_path, backbone.build(info), backbone, info, limits)
    assert Limits.of_card(read_card(tmp_path)) == limits
    card = json.loads((tmp_path / CARD).read_text("utf-8"))
    assert card["limits"] == json.loads(json.dumps(limits.record()))


def test_models_without_limits_say_nothing(tmp_path):
    """No maker is named, so that two methods with equal weights have equal cards."""
    backbone, info = ToyBackbone.create(), DataStats.of(toy_images())
    save_model(tmp_path, backbone.build(info), backbone, info, Limits("unseen"))
    assert json.loads((tmp_path / CARD).read_text("utf-8"))["limits"] == {}
    assert Limits.of_card(read_card(tmp_path)) == Limits()
