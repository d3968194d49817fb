"""The conditional track on models that are exact: samples, accuracies, distances, likelihood."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from contexts import CPU, Quadrants, context
from torch import nn

from msgm_bench import (
    IdentityCodec,
    Labels,
    Model,
    ModelContext,
    Prediction,
    VarianceExploding,
    VariancePreserving,
    registry,
    wilson,
)
from msgm_builtin.judges.bayes import Bayes
from msgm_builtin.metrics.fid import JudgeFID
from msgm_builtin.metrics.frontier import FrontierGap
from msgm_builtin.metrics.nll import NLL
from msgm_builtin.metrics.unlearning_accuracy import RemainingAccuracy, UnlearningAccuracy
from msgm_builtin.tasks.class_generation import ClassGeneration, retain_mask
from msgm_builtin.tasks.generation import Generation
from msgm_builtin.tasks.inpainting import InpaintingTask
from msgm_builtin.tasks.likelihood import Likelihood
from msgm_builtin.tasks.reconstruction import Reconstruction

MEANS = torch.tensor([[-2.0, -2.0], [0.0, 0.0], [2.0, 2.0]])


class ExactNetwork(nn.Module):
    """The exact eps_hat of each class of the Gaussians, and of all of them for the null class."""

    def __init__(self, density, process):
        super().__init__()
        self.parts = [density.eps(process, chosen) for chosen in ([0], [1], [2], None)]

    def forward(self, x_t, t, condition=None):
        """eps_hat of the class of the condition."""
        by_class = torch.stack([part(x_t, t) for part in self.parts])
        return by_class[condition, torch.arange(len(x_t))]


def gaussians(targets=(1,)):
    """The exact class-conditional model of the Gaussians under Bayes' rule."""
    options = {"train_size": 200, "test_size": 20_000}
    data = registry.registry().create("datasets", "gaussians", options).load()
    process = VariancePreserving()
    network = ExactNetwork(data.density, process)
    judge = Bayes.create()
    judge.fit(data, 0, CPU)
    retain, forget = data.split(data.test, targets)
    return ModelContext(
        model=Model(network, process, IdentityCodec(8.0), (2,), Labels(3)).eval(),
        data=data,
        targets=targets,
        retain=retain,
        forget=forget,
        judge=judge,
        judge_id={"name": "bayes"},
        seed=3,
        device=CPU,
        create=registry.registry().create,
    )


def drawn(model_context, **options):
    """The task and its artifact."""
    task = ClassGeneration.create({"nfe": 60, "guidance": 0.0, **options})
    return task, task.draw(model_context, 0, task.total(model_context))


def named(rows):
    """Rows by metric."""
    return {row.metric: row for row in rows}


# The task ---------------------------------------------------------------------------------


def test_samples_of_a_class_come_from_the_class():
    """Mean and covariance of every class's samples are its own, within 5 standard errors."""
    n = 1500
    _, artifact = drawn(gaussians(), per_class=n)
    for k, mean in enumerate(MEANS):
        x = artifact["x"][artifact["y"] == k]
        assert len(x) == n
        assert bool(((x.mean(dim=0) - mean).abs() < 5 / n**0.5).all())
        gap = torch.cov(x.T) - torch.eye(2)
        assert bool((gap.abs() < 5 * (2 / n) ** 0.5).all())


def test_guidance_pushes_samples_away_from_the_others():
    """Guided samples of an outer class lie farther out than its mean; each costs two passes."""
    model_context = gaussians()
    _, plain = drawn(model_context, per_class=400, nfe=20)
    _, pushed = drawn(model_context, per_class=400, nfe=20, guidance=2.0)
    assert torch.equal(plain["y"], pushed["y"])
    for k, sign in ((0, -1), (2, 1)):
        before, after = (sign * a["x"][a["y"] == k].mean() for a in (plain, pushed))
        assert after > before + 0.1
    assert int(pushed["nfe"][0]) == 2 * int(plain["nfe"][0])


@pytest.mark.parametrize(("guidance", "nfe"), [(0.0, 20), (2.0, 40)])
def test_the_cost_is_the_budget_times_the_passes(guidance, nfe):
    """An estimate counts at least what a sample takes, both passes of a guided one."""
    model_context = gaussians()
    task, artifact = drawn(model_context, per_class=2, nfe=20, guidance=guidance)
    assert task.cost(model_context.model).nfe == nfe
    assert nfe - 4 <= int(artifact["nfe"].max()) <= nfe


def test_classes_to_forget_may_have_more_samples():
    """Counts of both kinds, each class in one piece, and at most so many under a cap."""
    model_context = gaussians((0, 2))
    task = ClassGeneration.create({"per_class": 3, "per_forget_class": 5})
    assert task.conditions(model_context).tolist() == [0] * 5 + [1] * 3 + [2] * 5
    assert task.total(model_context) == 13
    assert retain_mask(model_context, {"y": task.conditions(model_context)}).sum() == 3
    assert task.options.limit_samples(4) == {"per_class": 3, "per_forget_class": 4}
    assert ClassGeneration.create().options.limit_samples(9000) == {
        "per_class": 5000,
        "per_forget_class": 5000,
    }


def test_samples_do_not_depend_on_their_chunk():
    """Chunks that cut through classes give the samples and labels of the whole."""
    model_context = gaussians()
    task, whole = drawn(model_context, per_class=7, per_forget_class=4, nfe=6)
    parts = [task.draw(model_context, start, count) for start, count in ((0, 5), (5, 8), (13, 5))]
    for name in whole:
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), whole[name])


def test_tracks_do_not_mix():
    """Each task skips the other track's models, with a reason; the likelihood serves both."""
    conditional, untold = gaussians().model, context().model
    assert "the model is unconditional" in ClassGeneration().skip(untold)
    assert ClassGeneration().skip(conditional) is None
    images = Model(nn.Identity(), VarianceExploding(), IdentityCodec(), (1, 8, 8), Labels(4))
    for task in (Generation(), InpaintingTask(), Reconstruction()):
        assert f"{task.name} is for unconditional models" in task.skip(images)
        assert task.skip(untold) is None
    assert Likelihood().skip(conditional) is None
    assert Likelihood().skip(untold) is None


# Accuracies -------------------------------------------------------------------------------


def test_an_exact_model_is_as_accurate_as_real_data():
    """UA is its floor on real D_f and RA that of real D_g, within 5 errors of both samples."""
    model_context = gaussians()
    task, artifact = drawn(model_context, per_class=1000)
    ua = named(UnlearningAccuracy().measure(model_context, task, artifact))
    ra = named(RemainingAccuracy().measure(model_context, task, artifact))
    pairs = [
        (ua["ua"], ua["ua_floor"]),
        (ua["ua_unrecognisable"], ua["ua_unrecognisable_floor"]),
        (ra["ra"], ra["ra_clean"]),
    ]
    for actual, real in pairs:
        p = real.value / 100
        assert 0 < p < 1
        error = 100 * (p * (1 - p) * (1 / actual.n + 1 / real.n)) ** 0.5
        assert abs(actual.value - real.value) < 5 * error, actual.metric


class Scripted(Quadrants):
    """Returns its predictions in order."""

    def __init__(self, classes, recognised):
        super().__init__()
        self.script = Prediction(torch.tensor(classes), torch.tensor(recognised))

    def predict(self, x):
        """As many as there are items."""
        n = len(x)
        return Prediction(self.script.classes[:n], self.script.recognised[:n])


def scripted(classes, recognised, targets=(3,), test=60):
    """A subject whose judge says so."""
    model_context = context(judge=Scripted(classes * 20, recognised * 20), test=test)
    retain, forget = model_context.data.split(model_context.data.test, targets)
    return dataclasses.replace(model_context, targets=targets, retain=retain, forget=forget)


def artifact_of(target):
    """An artifact of blank images."""
    return {"x": torch.zeros(len(target), 1, 8, 8), "y": torch.tensor(target)}


def test_unlearning_accuracy_of_verdicts_by_hand():
    """Of 8 samples of class 3: 3 recognised as 3, 1 as 3 but unrecognised, 4 as others: 5/8."""
    model_context = scripted(
        [3, 3, 3, 3, 0, 1, 2, 2], [True, True, True, False, True, True, False, True]
    )
    task = ClassGeneration()
    rows = named(UnlearningAccuracy().measure(model_context, task, artifact_of([0, 1] + [3] * 8)))
    assert rows["ua"].value == pytest.approx(62.5)
    assert rows["ua_unrecognisable"].value == pytest.approx(25)
    bounds = wilson(5, 8)
    assert (rows["ua"].low, rows["ua"].high) == pytest.approx((100 * bounds.low, 100 * bounds.high))
    assert [rows[m].direction for m in ("ua", "ua_unrecognisable")] == ["up", "down"]
    assert [rows[m].n for m in ("ua", "ua_floor")] == [8, 15]
    assert set(rows) == {"ua", "ua_unrecognisable", "ua_floor", "ua_unrecognisable_floor"}


def test_each_of_several_classes_has_a_row():
    """Assigned to another forgotten class is unlearned, too; ``ua`` is over all samples."""
    model_context = scripted([1, 3, 3, 3], [True] * 4, targets=(1, 3))
    rows = named(
        UnlearningAccuracy().measure(model_context, ClassGeneration(), artifact_of([1, 1, 3, 3]))
    )
    assert rows["ua"].value == pytest.approx(25)
    assert (rows["ua:b"].value, rows["ua:d"].value) == (50, 0)
    assert rows["ua:b"].n == 2


def test_remaining_accuracy_of_verdicts_by_hand():
    """3 of 5 samples judged as their class, recognised or not; one that is not finite is wrong."""
    model_context = scripted([0, 1, 2, 2, 0], [True, False, True, True, True])
    artifact = artifact_of([3, 0, 1, 2, 1, 0])
    rows = named(RemainingAccuracy().measure(model_context, ClassGeneration(), artifact))
    assert rows["ra"].value == pytest.approx(80)
    assert rows["ra_unrecognisable"].value == pytest.approx(20)
    assert (rows["ra"].direction, rows["ra"].n, rows["ra_clean"].n) == ("up", 5, 45)
    artifact["x"][1, 0, 0, 0] = torch.nan
    rows = named(RemainingAccuracy().measure(model_context, ClassGeneration(), artifact))
    assert rows["ra"].value == pytest.approx(60)


def test_guidance_is_part_of_what_a_value_means():
    """Protocols with another weight, sampler or count have another hash."""
    model_context = gaussians()
    hashes = {
        metric.protocol(model_context, ClassGeneration.create(options)).hash
        for metric in (UnlearningAccuracy(), RemainingAccuracy())
        for options in ({}, {"guidance": 0.5}, {"nfe": 7}, {"per_class": 9})
    }
    assert len(hashes) == 8


# Distance and likelihood ------------------------------------------------------------------


def test_fid_is_of_the_retained_classes():
    """D_g's training images are at distance 0, whatever was drawn of the forgotten class."""
    model_context, metric, task = context(), JudgeFID(), ClassGeneration()
    model_context = dataclasses.replace(
        model_context, reference=metric.compute_reference(model_context)
    )
    train = model_context.data.train
    artifact = {"x": model_context.model.codec.encode(train.x), "y": train.y}
    artifact["x"][train.y == 3] = 0.0
    (row,) = metric.measure(model_context, task, artifact)
    assert row.value == pytest.approx(0, abs=1e-9)
    assert (row.metric, row.split, row.n) == ("fid", "samples", 120)
    assert row.protocol == "fid/judge/retain-classes@1"
    artifact["x"][train.y == 0] = 0.0
    assert metric.measure(model_context, task, artifact)[0].value > 0.01


def test_the_likelihood_is_that_of_the_true_class():
    """On an exact model, -log p(x | y) of each item, under a protocol of its own."""
    model_context = gaussians()
    task = Likelihood.create({"divergence": "exact", "count": 40})
    artifact = task.draw(model_context, 0, 80)
    chosen = [model_context.retain[:40], model_context.forget[:40]]
    x, y = (torch.cat([getattr(part, name) for part in chosen]) for name in ("x", "y"))
    exact = torch.stack([model_context.data.density.log_prob(x, [k]) for k in range(3)])
    gap = artifact["nats"] + exact[y, torch.arange(80)]
    assert float(gap.mean().abs()) < 0.05
    rows = NLL().measure(model_context, task, artifact)
    assert {row.protocol for row in rows} == {"nll/pf-ode/true-class@1"}
    assert NLL().protocol(model_context, task).settings["condition"] == "true class"
    untold = dataclasses.replace(model_context, model=context().model)
    assert NLL().protocol(untold, task).id == "nll/pf-ode@1"
    assert "condition" not in NLL().protocol(untold, task).settings


def test_the_frontier_is_not_for_conditional_densities():
    """-log p(x | y) may lie below any unconditional density's frontier."""
    model_context = gaussians()
    assert "unconditional" in FrontierGap().skip(model_context, model_context.model)


def test_a_picture_has_a_row_a_class():
    """Ten samples of each class, the forgotten one named; points have no picture of this kind."""
    model_context, task = context(), ClassGeneration()
    target = torch.arange(4).repeat_interleave(12)
    rows = task.preview(model_context, {"x": torch.zeros(48, 1, 8, 8), "y": target})
    assert list(rows) == ["a (retain)", "b (retain)", "c (retain)", "d (forget)"]
    assert all(images.shape == (10, 1, 8, 8) for images in rows.values())
    assert task.preview(gaussians(), {}) == {}
