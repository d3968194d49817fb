"""How tasks and metrics enter a plan: presets, skips, ids of protocols."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from contexts import Quadrants, context

from msgm_bench import (
    Metric,
    MetricProtocol,
    PluginError,
    Prediction,
    RunSpec,
    UsageError,
    wilson,
)
from msgm_bench.evaluation.scoring import Readings, score
from msgm_bench.experiment.cache_key import metric_identity
from msgm_bench.experiment.components import task_presets
from msgm_bench.experiment.evaluation_plan import metrics_of
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.skipped import reasons
from msgm_bench.report.provenance import rerun_command
from msgm_builtin.metrics.unlearning_ratio import UnlearningRatio
from msgm_builtin.tasks.generation import Generation

DIGITS = {"dataset": "digits", "forget": "3,7", "backbone": "vesde", "method": "unseen"}
POINTS = DIGITS | {"dataset": "gaussians", "forget": "middle"}


def test_tasks_have_presets_of_their_own():
    """A task's preset lies below the dataset's and the backbone's; the user's option above all."""
    plan = resolve(RunSpec.model_validate(DIGITS | {"task_params": {"inpainting": {"nfe": 30}}}))
    assert (
        plan.evaluation.tasks["inpainting"].options.nfe,
        plan.evaluation.tasks["inpainting"].options.count,
    ) == (
        30,
        500,
    )
    paper = resolve(RunSpec.model_validate(DIGITS | {"preset": "paper"}))
    assert paper.evaluation.tasks["inpainting"].options.nfe == 2000
    assert paper.evaluation.tasks["reconstruction"].options.count == 10_000
    assert task_presets("nobody's") == [{}] * len(task_presets("quick"))


def skipped_here(plan):
    """The tasks that are skipped, but for those of text-to-image models."""
    skipped = reasons(plan.evaluation.skipped, "tasks")
    assert "is for text-to-image models" in skipped["prompt_generation"]
    return {name for name, why in skipped.items() if "text-to-image models" not in why}


def test_tasks_that_do_not_apply_are_skipped_with_their_metrics():
    """Points are neither inpainted nor reconstructed, and the plan says why."""
    plan = resolve(RunSpec.model_validate(POINTS))
    assert skipped_here(plan) == {"inpainting", "reconstruction", "class_generation"}
    assert "images" in reasons(plan.evaluation.skipped)["inpainting"]
    assert not {"acc", "psnr", "ssim", "clip"} & {metric.name for metric in plan.evaluation.metrics}
    assert {"ur", "nll"} <= {metric.name for metric in plan.evaluation.metrics}
    everything = resolve(RunSpec.model_validate(DIGITS))
    assert skipped_here(everything) == {"class_generation"}
    assert {"acc", "psnr", "ssim", "clip"} <= {
        metric.name for metric in everything.evaluation.metrics
    }


def test_the_conditional_track_has_its_own_tasks_and_metrics():
    """Class-conditional models have none of the unconditional track's, but for the likelihood."""
    plan = resolve(RunSpec.model_validate(DIGITS | {"conditional": True}))
    assert skipped_here(plan) == {"generation", "inpainting", "reconstruction"}
    assert all(
        "is for unconditional models" in reasons(plan.evaluation.skipped, "tasks")[name]
        for name in skipped_here(plan)
    )
    actual = {metric.name for metric in plan.evaluation.metrics}
    assert {"ua", "ra", "fid-judge", "nll"} <= actual
    assert not {"ur", "acc", "psnr"} & actual
    c = plan.evaluation.tasks["class_generation"].options
    assert (c.sampler, c.nfe, c.guidance) == ("dpmpp_2m_sde", 32, 0.0)
    full = resolve(RunSpec.model_validate(DIGITS | {"conditional": True, "preset": "full"}))
    c = full.evaluation.tasks["class_generation"].options
    assert (c.per_class, c.per_forget_class, c.guidance, c.nfe) == (5000, None, 2.0, 32)


def test_a_mask_outside_the_image_stops_before_training(bench, tmp_path):
    """The command ends with a usage error that names the size of the images."""
    arguments = ("--dataset", "digits", "--forget", "3", "--backbone", "vesde", "--method", "obt")
    box = ("-t", "inpainting.box=[6, 0, 4, 8]", "--out", tmp_path / "runs")
    code, _, error = bench("run", *arguments, *box)
    assert code == 2
    assert "8x8" in error
    assert not (tmp_path / "runs").exists()


class Loose(Metric):
    """A metric that names its task by a string."""

    name = "loose"
    tasks = "generation"

    def protocol(self, context, task):
        """One id for all tasks, whatever their settings."""
        return MetricProtocol(name="loose", settings={"task": task.name})

    def measure(self, context, task, artifact):
        """Nothing."""
        return []


def test_tasks_must_be_a_tuple(monkeypatch):
    """A string in the place of the tuple is an error that names plugin and remedy."""
    plan = resolve(RunSpec.model_validate(DIGITS))
    entry = type("Entry", (), {"cls": Loose, "provenance": "somebody's 1.0"})
    fake = type("Fake", (), {"entries": lambda self, kind: [entry]})
    monkeypatch.setattr("msgm_bench.experiment.evaluation_plan.registry", fake)
    with pytest.raises(PluginError, match=r"somebody's 1\.0 has tasks = 'generation'"):
        metrics_of(plan.spec, plan.evaluation.tasks, plan.settings)


class Stubborn(Quadrants):
    """A judge that sees the first class everywhere."""

    def predict(self, x):
        """The first."""
        return Prediction(
            torch.zeros(len(x), dtype=torch.long), torch.ones(len(x), dtype=torch.bool)
        )


def test_a_judge_no_better_than_chance_has_no_corrected_ratio():
    """The corrected ratio is null with a reason; the others are there, and nothing is lost."""
    model_context = context(judge=Stubborn())
    artifact = {"x": model_context.model.codec.encode(model_context.retain.x)}
    rows = {
        row.metric: row for row in UnlearningRatio().measure(model_context, Generation(), artifact)
    }
    assert rows["ur"].value == 0
    assert rows["ur_corrected"].value is None
    assert "no better than chance" in rows["ur_corrected"].reason


def test_one_id_means_one_thing():
    """Two tasks under one protocol id are an error, not a silent mixture."""

    class Wide(Loose):
        """Two tasks, one id."""

        name = "wide"
        tasks = ("inpainting", "reconstruction")

    tasks = resolve(RunSpec.model_validate(DIGITS)).evaluation.tasks
    with pytest.raises(
        PluginError, match=r"'wide' on 'reconstruction': the protocol loose@1 already"
    ):
        score(Readings([Wide()], tasks, context(), *[lambda name: {}] * 4))


def test_keys_depend_on_weights_that_come_later(tmp_path, monkeypatch):
    """A rows stage measured without weights is not taken for one measured with them."""
    monkeypatch.setenv("MSGM_BENCH_DATA", str(tmp_path))
    plan = resolve(RunSpec.model_validate(DIGITS))
    metric = next(m for m in plan.evaluation.metrics if m.name == "fid-inception")
    before = json.dumps(metric_identity(metric), sort_keys=True)
    (tmp_path / "pt_inception-2015-12-05-6726825d.pth").write_bytes(b"weights")
    assert json.dumps(metric_identity(metric), sort_keys=True) != before


@pytest.mark.parametrize("targets", [(3,), (1, 3), (0, 1, 2)])
def test_ratios_of_classes_add_up(targets):
    """Each of several forgotten classes has its share with Wilson's interval; one has only UR."""
    model_context = replace(context(), targets=targets)
    data = model_context.data
    samples = data.test[torch.tensor([0, 1, 1, 2, 3, 3, 3, 0])]
    artifact = {"x": model_context.model.codec.encode(samples.x)}
    rows = {
        row.metric: row for row in UnlearningRatio().measure(model_context, Generation(), artifact)
    }
    counts = {data.classes[k]: (2, 2, 1, 3)[k] for k in targets}
    assert rows["ur"].value == 100 * sum(counts.values()) / 8
    actual = {name: rows.get(f"ur:{name}") for name in data.classes}
    if len(targets) == 1:
        assert not any(actual.values())
        return
    assert {name for name, row in actual.items() if row} == set(counts)
    for name, count in counts.items():
        expected = wilson(count, 8).scaled(100)
        row = actual[name]
        assert (row.value, row.low, row.high) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )
        assert (row.split, row.unit, row.protocol) == ("samples", "%", rows["ur"].protocol)


class Doubtful(Quadrants):
    """The brightest quadrant, recognised where the image is dark all in all."""

    def predict(self, x):
        """Verdicts as Quadrants', of which bright images are not recognised."""
        seen = super().predict(x)
        return Prediction(seen.classes, torch.nan_to_num(x).flatten(1).mean(dim=1) < 0.6)


@pytest.mark.parametrize("targets", [(3,), (1, 3)])
def test_the_argmax_companion_counts_what_is_not_recognised(targets):
    """ur counts recognised samples, ur_argmax all finite ones, each by Wilson's interval."""
    model_context = replace(context(judge=Doubtful()), targets=targets)
    x = model_context.visible(model_context.data.test)[torch.tensor([0, 1, 1, 2, 3, 3, 3, 3])]
    x[4] = x[4] / 2 + 0.5  # the same quadrant, too bright to be recognised
    x[5] = torch.nan  # no image at all, which a judge may still put into some class
    artifact = {"x": x}
    rows = {
        row.metric: row for row in UnlearningRatio().measure(model_context, Generation(), artifact)
    }
    dark = {3: 2, 1: 2}
    recognised, assigned = sum(dark[k] for k in targets), sum(dark[k] for k in targets) + 1
    for metric, count in (("ur", recognised), ("ur_argmax", assigned)):
        expected, row = wilson(count, 8).scaled(100), rows[metric]
        assert (row.value, row.low, row.high, row.n) == pytest.approx(
            (expected.value, expected.low, expected.high, 8)
        )
        assert (row.split, row.direction, row.protocol) == ("samples", "down", rows["ur"].protocol)
    if len(targets) > 1:
        assert rows["ur_argmax:d"].value == 100 * 3 / 8
        assert rows["ur_argmax:b"].value == rows["ur:b"].value == 100 * 2 / 8
    else:
        assert "ur_argmax:d" not in rows


def test_a_task_on_request_runs_where_the_request_names_it(monkeypatch):
    """It is no part of other runs; its options need it, and its command repeats it."""
    monkeypatch.setattr(Generation, "on_request", True)
    assert "generation" not in resolve(RunSpec.model_validate(DIGITS)).evaluation.tasks
    spec = RunSpec.model_validate(DIGITS | {"tasks": ("generation", "generation")})
    assert "generation" in resolve(spec).evaluation.tasks
    assert rerun_command(spec).count("--task generation") == 1
    options = {"task_params": {"generation": {"nfe": 9}}}
    with pytest.raises(UsageError, match="'generation', which runs on request only"):
        resolve(RunSpec.model_validate(DIGITS | options))
    with pytest.raises(UsageError, match="generatoin"):
        resolve(RunSpec.model_validate(DIGITS | {"tasks": ("generatoin",)}))
