"""What the printed commands leave behind is what the view accepts, value by value."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
import torch

from msgm_bench import Judge, ModelContext, Prediction, Result
from msgm_bench.api.result import ProtocolRecord
from msgm_bench.estimate.placeholder_data import known_data
from msgm_bench.estimate.run_estimate import placeholder_context
from msgm_bench.experiment.model_io import skeleton
from msgm_bench.experiment.plan import resolve_on_data
from msgm_bench.experiment.resolved_spec import ResolvedSpec
from msgm_bench.report.provenance import rerun_command
from msgm_bench.training import Runtime
from msgm_paper.assessment import Status, assess
from msgm_paper.caveats import objections
from msgm_paper.mapping import quantity, setting
from msgm_paper.tables import published_values

COMMANDS = dict.fromkeys(line for entry in published_values() if (line := setting(entry).command()))
HALF = 1e-3


class Guess(Judge):
    """Random labels of the shape that the data's have, everything recognised."""

    name = "guess"

    def __init__(self, labels: torch.Tensor, count: int) -> None:
        super().__init__()
        self.labels, self.count = labels, count

    def fit(self, data, seed, device):
        """Nothing to learn."""

    def predict(self, x):
        """One of the labels, or some of the attributes."""
        generator = torch.Generator().manual_seed(len(x))
        shape = (len(x), *self.labels.shape[1:])
        classes = torch.randint(self.count if len(shape) == 1 else 2, shape, generator=generator)
        return Prediction(classes.to(self.labels.dtype), torch.ones(len(x), dtype=torch.bool))


def planned(spec):
    """The plan of a request, on noise in the place of files that are not here."""
    known = known_data(spec)
    targets = known.loaded.data.targets(spec.forget)
    runtime = Runtime.select(spec.device, spec.precision, spec.compile)
    return resolve_on_data(spec, runtime, known.loaded, targets, download=False)


def subject_of(plan) -> ModelContext:
    """An untrained model without weights beside a few items of each split."""
    retain, forget = plan.data.split(plan.data.test[:200], plan.targets)
    empty = placeholder_context(plan, skeleton(plan.backbone, plan.loaded.stats), (1, 1))
    judge = Guess(plan.data.test.y, len(plan.data.classes))
    return replace(empty, retain=retain, forget=forget, judge=judge)


def artifact_of(task, context):
    """Noise in the place of what the task would draw."""
    total, generator = min(task.total(context), 400), torch.Generator().manual_seed(0)
    if task.name == "likelihood":
        return {"nats": torch.rand(total, generator=generator) + 1}
    low, high = context.model.codec.bounds or (-1.0, 1.0)
    x = torch.rand(total, *context.model.shape, generator=generator)
    return {"x": low + (high - low) * x}


def result_of(plan) -> Result:
    """The result that a run of the plan leaves, with values of noise."""
    context, rows, protocols, tasks = subject_of(plan), [], {}, plan.evaluation.tasks
    for metric in plan.evaluation.metrics:
        for task in (tasks[name] for name in metric.tasks if name in tasks):
            rows += metric.measure(context, task, artifact_of(task, context))
            protocol = metric.protocol(context, task)
            record = ProtocolRecord(hash=protocol.hash, settings=protocol.settings)
            protocols[protocol.id] = record
    return Result(
        status="ok",
        spec=ResolvedSpec.of(plan),
        metrics=rows,
        protocols=protocols,
        provenance={"command": rerun_command(plan.spec)},
    )


def with_value(result, row, value) -> Result:
    """The same, with this value of this row."""
    ends = {"low": value - HALF, "high": value + HALF}
    changed = row.model_copy(update={"value": value, "reason": None, **ends})
    return Result(
        status="ok",
        spec=result.spec,
        metrics=[changed if other is row else other for other in result.metrics],
        protocols=result.protocols,
        provenance=result.provenance,
    )


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: " ".join(shlex.split(line)[3:13:2]))
def test_what_a_command_measures_is_accepted(line, bench, specs):
    """The command is planned, its rows are made by the metrics themselves, and each value of its
    run that is a target is reproduced by its own value; the others say why they cannot be.
    """
    code, _, err = bench(*shlex.split(line)[1:], "--dry-run")
    assert code == 0, err
    plan = planned(specs.pop())
    assert plan.skipped is None
    result = result_of(plan)
    answered = [entry for entry in published_values() if setting(entry).command() == line]
    assert answered
    for entry in answered:
        row = quantity(entry).row(result)
        assert row is not None, f"{entry}: no such row"
        assessment = assess(entry, [with_value(result, row, entry.value)], published_values())
        flaws = objections(entry)
        assert assessment.reasons == flaws, entry
        assert assessment.status is (Status.NOT_COMPARABLE if flaws else Status.REPRODUCED), entry


def test_every_value_has_a_command_or_a_reason():
    """The columns of real images have no run; of 240 values that leaves those of the commands."""
    without = [entry for entry in published_values() if setting(entry).command() is None]
    assert len(published_values()) == 240
    assert all(objections(entry) for entry in without)
    assert {entry.method for entry in without} == {"real-data"}
