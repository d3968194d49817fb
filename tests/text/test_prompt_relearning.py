"""Relearning of prompts: units, what is trained, and the steps until the concept is half back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from attack_toy import gaussian_context
from prompt_contexts import CPU, context, named, paint

from msgm_bench import OptionError
from msgm_bench.experiment.copy_trainer import CopyTrainer
from msgm_bench.testing import check_metric, check_task
from msgm_bench.testing.toy_text import toy_text_model
from msgm_bench.training import Runtime
from msgm_text.metrics.attack_success import NO_CONTROL
from msgm_text.metrics.relearning_steps import RelearningSteps
from msgm_text.tasks.prompt_relearning import PromptRelearning, Unit

STEPS = (5, 10, 20)
CURVE = {"base": 100, "0:0": 0, "4:1": 0, "4:80": 100}


def artifact(rates, base=10, restarts=1, draws=10):
    """Images of which so many show a circle, by (items, steps); the same in each restart."""
    task = PromptRelearning.create(
        {"items": (4, 8), "steps": STEPS, "restarts": restarts, "draws": draws}
    )
    x, columns = [], {"of_base": [], "restart": [], "items": [], "steps": []}
    for unit in task.units:
        hits = base if unit.of_base else rates[unit.items, unit.steps]
        shown = torch.zeros(draws, 5, dtype=torch.bool)
        shown[:hits, 0] = True
        x.append(paint(shown))
        for name, values in columns.items():
            values.append(getattr(unit, name))
    tensors = {name: torch.tensor(values) for name, values in columns.items()}
    concept = torch.zeros(len(x), draws, dtype=torch.int64)
    return task, tensors | {"x": torch.stack(x), "concept": concept}


def rates(before, few, many):
    """Hits before, and after each number of steps on 4 and on 8 items."""
    curves = {(4, steps): hits for steps, hits in zip(STEPS, few, strict=True)}
    curves |= {(8, steps): hits for steps, hits in zip(STEPS, many, strict=True)}
    return {(0, 0): before, **curves}


def test_units_are_base_model_and_trainings():
    """The base and the model as it is come first in each restart, then every training."""
    units = PromptRelearning.create({"items": (2, 4), "steps": (1, 3), "restarts": 2}).units
    first = [Unit(0, 0, 0, True), Unit(0, 0, 0)]
    trained = [Unit(0, 2, 1), Unit(0, 2, 3), Unit(0, 4, 1), Unit(0, 4, 3)]
    assert units == first + trained + [replace(unit, restart=1) for unit in first + trained]


def test_steps_are_read_off_the_curve_of_the_most_items():
    """The first number of steps with half of the base's rate; the control has its own."""
    task, drawn = artifact(rates(0, (9, 9, 9), (1, 4, 6)), base=8, restarts=2)
    _, control = artifact(rates(0, (0, 0, 0), (0, 1, 4)), base=8, restarts=2)
    rows = named(RelearningSteps.create().measure(replace(context(), control=control), task, drawn))
    assert (rows["relearn_steps"].value, rows["relearn_steps"].n) == (10, 20)
    assert rows["relearn_steps_control"].value == 20
    assert rows["relearned:4:5"].value == 90
    assert rows["relearned:8:20"].value == 60
    assert rows["relearned:0:0"].value == 0
    assert (rows["relearned:base"].value, rows["relearned:base"].n) == (80, 20)
    assert rows["relearned_control:8:20"].value == 40


@pytest.mark.parametrize(
    ("before", "many", "base", "value", "reason"),
    [
        (6, (0, 0, 0), 10, 0, None),
        (0, (1, 2, 4), 10, None, "not within 20 steps: 40% at most"),
        (0, (9, 9, 9), 0, None, "the base does not draw the concept"),
    ],
)
def test_what_was_never_gone_or_never_comes(before, many, base, value, reason):
    """0 where the model draws it untrained; null with a reason where it never comes back."""
    task, drawn = artifact(rates(before, (0, 0, 0), many), base=base)
    rows = named(RelearningSteps.create().measure(context(), task, drawn))
    row = rows["relearn_steps"]
    assert (row.value, row.reason) == (value, reason)
    assert rows["relearn_steps_control"].reason == NO_CONTROL


def test_the_model_learns_and_stays(tmp_path):
    """A Gaussian model that shows no circle shows one after training; it does not move itself."""
    base, subject = gaussian_context().model, gaussian_context()
    base.network.unet.weight.data[[0, -1], 0] = torch.tensor([2.0, -2.0])  # it shows circles
    train = CopyTrainer(subject.model, tmp_path, Runtime(CPU))
    subject = replace(subject, base=base, trainer=train)
    options = {"nfe": 25, "guidance": 0.0, "draws": 20, "train_batch": 32, "learning_rate": 0.05}
    task = PromptRelearning.create(options | {"items": (4,), "steps": (1, 80)})
    drawn = task.draw(subject, 0, 4)
    values = named(RelearningSteps.create().measure(subject, task, drawn))
    curve = {f"relearned:{name}": value for name, value in CURVE.items()}
    assert {name: values[name].value for name in curve} == curve
    assert values["relearn_steps"].value == 80
    assert not subject.model.network.unet.weight.any()
    assert torch.equal(task.draw(subject, 3, 1)["x"][0], drawn["x"][3])


def test_the_trained_part_is_the_models():
    """auto is the network without its text encoder; an unknown part is refused before training."""
    model = toy_text_model()
    assert PromptRelearning.create()._part(model) == "unet"
    PromptRelearning.create({"weights": "cross"}).check(model)
    with pytest.raises(OptionError, match="no such part"):
        PromptRelearning.create({"weights": "crossed"}).check(model)


def test_the_kit():
    """The task and its metric keep what every task and metric keeps, a kill included."""
    check_task(PromptRelearning, {"steps": (1, 2), "items": (4,)})
    check_metric(RelearningSteps)
