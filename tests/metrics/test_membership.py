"""Membership on models that remember their items, that never saw them, and that push them away."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from contexts import CPU, MEAN, STD, context
from sklearn.metrics import roc_auc_score
from torch import nn

from msgm_bench import (
    Evidence,
    GaussianMixture,
    Labels,
    MeasuredRows,
    Model,
    MsgmBenchError,
    Noise,
    OptionError,
    UniformDequantization,
    derive_seed,
)
from msgm_bench.testing import check_metric, check_task
from msgm_builtin.metrics.membership import NO_CONTROL, NO_NLL, Membership
from msgm_builtin.tasks.membership import Membership as MembershipTask

REMEMBERED = 20


class Memory(nn.Module):
    """The exact eps_hat of a narrow Gaussian around each of some images."""

    def __init__(self, images, process, std=0.1):
        super().__init__()
        means = images.flatten(1).double()
        n, D = means.shape
        covariances = (std**2 * torch.eye(D, dtype=torch.float64)).expand(n, D, D)
        self.eps = GaussianMixture(torch.ones(n), means, covariances).eps(process)

    def forward(self, x_t, t, condition=None):
        """eps_hat, in the dtype of ``x_t``."""
        return self.eps(x_t.flatten(1).double(), t.double()).reshape(x_t.shape).to(x_t.dtype)


class Latent(UniformDequantization):
    """A codec without a density of the data."""

    bits_offset = None


def memorising(examined):
    """The context with a model of 20 training images of the class to forget."""
    data, model = examined.data, examined.model
    members = data.train[data.members(data.train, examined.targets)][:REMEMBERED]
    network = Memory(model.codec.encode(members.x), model.process)
    memory = Model(network, model.process, model.codec, model.shape).eval()
    return dataclasses.replace(examined, model=memory)


def drawn(examined, **options):
    """The task and its artifact."""
    task = MembershipTask.create({"repeats": 2, "nodes": 8, **options})
    return task, task.draw(examined, 0, task.total(examined))


def named(rows):
    """Rows by metric."""
    return {row.metric: row for row in rows}


# The task ---------------------------------------------------------------------------------


def test_training_items_come_first():
    """40 training and 15 held-out images of the class, or at most so many of each."""
    examined = context()
    task, artifact = drawn(examined, nll_count=3)
    assert task.sizes(examined) == (40, 15)
    assert artifact["member"].tolist() == [True] * 40 + [False] * 15
    assert artifact["has_nats"].nonzero().flatten().tolist() == [0, 1, 2, 40, 41, 42]
    few = MembershipTask.create({"count": 20})
    assert few.sizes(examined) == (20, 15)
    data = examined.data
    members = data.train.x[data.train.y == 3]
    chosen = few.items(examined).x[:20]
    positions = [int((members == image).flatten(1).all(dim=1).nonzero()[0]) for image in chosen]
    assert positions == sorted(set(positions))
    assert positions != list(range(20)), "they are chosen by chance"
    assert torch.equal(few.items(examined).x[20:], examined.forget.x)


def test_losses_are_those_of_the_formula():
    """Mean over noises that all items share of |eps_hat(x_t) - eps|^2 / D, at each level."""
    examined = context()
    _, artifact = drawn(examined, levels=(0.2, 0.8), nll_count=0)
    seed = derive_seed(examined.seed, "membership", "loss")
    eps = Noise(seed, 0, 4, CPU).normal((1, 8, 8)).double().reshape(2, 2, 64)
    x = (examined.forget.x.double().flatten(1) + 0.5) / 17
    for j, sigma in enumerate((0.1, 0.4)):  # half of the range of [0, 1) times the level
        factor = sigma / (STD**2 + sigma**2)
        loss = 0.0
        for noise in eps[j]:
            loss += (factor * (x + sigma * noise - MEAN) - noise).square().mean(dim=1) / 2
        torch.testing.assert_close(artifact["loss"][40:, j], loss, rtol=1e-4, atol=1e-6)


def test_the_likelihood_is_that_of_the_model():
    """-log p of the centres of the bins, within 0.01 nats a dimension of the Gaussian's.

    The flow from the prior N(0, 8^2) scales x - m by the ratio of the standard deviations.
    """
    examined = context()
    task, artifact = drawn(examined, nodes=32)
    x = examined.model.codec.encode(task.items(examined).x).double().flatten(1)
    scale = math.hypot(STD, 8.0) / math.hypot(STD, 0.01)
    prior = torch.distributions.Normal(0.0, 8.0)
    exact = -(prior.log_prob(MEAN + scale * (x - MEAN)) + math.log(scale)).sum(dim=1)
    assert float((artifact["nats"] - exact).abs().max()) < 0.01 * 64
    assert artifact["nfe"].unique().tolist() == [32 + 8]


def test_the_class_of_an_item_is_its_condition():
    """A class-conditional model is asked for each item's own class."""
    seen = []

    class Recorder(nn.Module):
        def forward(self, x_t, t, condition=None):
            seen.append(condition)
            return x_t

    examined = context()
    model = examined.model
    conditional = Model(Recorder(), model.process, model.codec, model.shape, Labels(4)).eval()
    task, _ = drawn(dataclasses.replace(examined, model=conditional), nll_count=0, repeats=1)
    assert [condition.tolist() for condition in seen] == [[3] * 55] * len(task.options.levels)
    protocol = task.protocol(dataclasses.replace(examined, model=conditional))
    assert (protocol["condition"], protocol["nll_count"]) == ("true class", 0)
    assert "condition" not in task.protocol(examined)


def test_levels_that_the_process_does_not_reach_are_refused():
    """From sigma = 0.01 to 8 in halves of the range: 0.02 to 16."""
    model = context().model
    MembershipTask.create({"levels": (0.021, 15.9)}).check(model)
    with pytest.raises(OptionError, match="different numbers"):
        MembershipTask.create({"levels": (0.1, 0.2, 0.1)})
    for level in (0.019, 16.1):
        with pytest.raises(OptionError, match=r"levels from 0.02 to 16"):
            MembershipTask.create({"levels": (0.1, level)}).check(model)


def test_latents_have_losses_and_no_likelihood():
    """Their codec has no density of the data."""
    examined = context()
    model = examined.model
    latent = Model(model.network, model.process, Latent(17), model.shape).eval()
    examined = dataclasses.replace(examined, model=latent)
    task, artifact = drawn(examined)
    assert not bool(artifact["has_nats"].any())
    assert "nodes" not in task.protocol(examined)
    rows = named(Membership().measure(examined, task, artifact))
    assert rows["membership_nll"].reason == NO_NLL
    assert rows["membership_auc"].n == 55


# The metric -------------------------------------------------------------------------------


def test_a_model_that_remembers_is_found_out():
    """20 of 40 training images are known for sure; the control, which saw none, is at chance."""
    examined = context(test=240)
    task, control = drawn(examined)
    memory = dataclasses.replace(memorising(examined), control=control)
    _, artifact = drawn(memory)
    rows = named(Membership().measure(memory, task, artifact))
    assert rows["membership_auc"].low > 55
    assert rows["membership_nll_auc"].low > 55
    assert rows["membership_tpr"].value >= 50
    assert rows["membership_tpr"].low > rows["membership_tpr_control"].high
    assert rows["membership_excess"].low > 0
    for metric in ("membership_auc_control", "membership_nll_auc_control"):
        assert rows[metric].low < 50 < rows[metric].high


def test_a_model_that_saw_nothing_is_at_chance():
    """Its interval holds 50, so that the headline's begins there, and it is its own control."""
    examined = context(test=240)
    task, artifact = drawn(examined)
    examined = dataclasses.replace(examined, control=artifact)
    rows = named(Membership().measure(examined, task, artifact))
    assert rows["membership_auc"].low < 50 < rows["membership_auc"].high
    assert rows["membership"].low == 50 < rows["membership"].value
    excess = rows["membership_excess"]
    assert (excess.low, excess.value, excess.high, excess.unit) == (0, 0, 0, "points")


def evidence(is_member, losses, of_control=None, **changes):
    """Evidence of losses at one level, whose logarithm is the NLL."""
    loss = torch.tensor(losses, dtype=torch.float64)
    tensors = {
        "member": torch.tensor(is_member),
        "has_nats": torch.ones(len(is_member), dtype=torch.bool),
        "levels": torch.tensor([0.1], dtype=torch.float64),
        "loss": loss[:, None],
        "nats": loss.log(),
    }
    if of_control is not None:
        control = torch.tensor(of_control, dtype=torch.float64)
        tensors |= {"control_loss": control[:, None], "control_nats": control.log()}
    return Evidence("membership", "membership@1", {}, ("d",), tensors | changes)


MEMBER = [True, True, True, False, False]


def test_rows_by_hand():
    """Five of six pairs are in order; the control has three, and no training item leads."""
    rows = named(Membership.recompute(evidence(MEMBER, [1, 2, 4, 3, 5], [1, 2, 3, 0.5, 4])))
    assert rows["membership_auc"].value == pytest.approx(500 / 6)
    assert rows["membership_auc:0.1"].value == pytest.approx(500 / 6)
    assert rows["membership"].value == pytest.approx(500 / 6)
    assert rows["membership_auc_control"].value == pytest.approx(50)
    assert rows["membership_excess"].value == pytest.approx(200 / 6)
    assert rows["membership_tpr"].value == pytest.approx(200 / 3)
    assert (rows["membership_tpr"].n, rows["membership_auc"].n) == (3, 5)
    assert rows["membership_tpr_control"].value == 0
    assert rows["membership_nll_auc"].value == rows["membership_auc"].value
    assert {row.split for row in rows.values()} == {"forget"}


def test_the_score_is_the_mean_of_log_losses():
    """An item counts as much at a level of small losses as at one of large losses."""
    rng = np.random.default_rng(0)
    loss = rng.uniform(0.5, 2, (30, 3)) * [0.01, 1, 100]
    member = rng.random(30) < 0.5
    tensors = {"loss": torch.tensor(loss), "levels": torch.tensor([0.1, 0.2, 0.4])}
    rows = named(Membership.recompute(evidence(member.tolist(), loss[:, 0].tolist(), **tensors)))
    expected = 100 * roc_auc_score(member, -np.log(loss).mean(axis=1))
    assert rows["membership_auc"].value == pytest.approx(expected)
    for j, level in enumerate((0.1, 0.2, 0.4)):
        expected = 100 * roc_auc_score(member, -loss[:, j])
        assert rows[f"membership_auc:{level:g}"].value == pytest.approx(expected)


def test_items_that_are_pushed_away_are_told_apart():
    """An AUC of 0 is a leak of 100; the interval is mirrored, too."""
    rows = named(Membership.recompute(evidence(MEMBER, [9, 8, 7, 1, 2])))
    auc, headline = rows["membership_auc"], rows["membership"]
    assert (auc.value, headline.value) == (0, 100)
    assert (headline.low, headline.high) == pytest.approx((50.0, 100.0))
    many = [True] * 50 + [False] * 50
    rows = named(Membership.recompute(evidence(many, [9] * 50 + [1] * 50)))
    assert rows["membership"].low == pytest.approx(100 - rows["membership_auc"].high)
    assert rows["membership"].direction == "down"


def test_without_a_control_there_is_no_excess():
    """Null, with the reason."""
    rows = named(Membership.recompute(evidence(MEMBER, [1, 2, 4, 3, 5])))
    for metric in ("membership_auc_control", "membership_excess", "membership_nll_excess"):
        assert (rows[metric].value, rows[metric].reason) == (None, NO_CONTROL)
    assert "membership_tpr_control" not in rows


def test_losses_that_are_not_finite_count_as_large():
    """A training item whose loss is infinite is told apart by nothing but that."""
    rows = named(Membership.recompute(evidence(MEMBER, [1, 2, float("inf"), 3, 5])))
    assert rows["membership_auc"].value == pytest.approx(400 / 6)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"loss": torch.ones(5, dtype=torch.float64)}, "2 dimensions"),
        ({"loss": torch.ones(4, 1)}, "is of .4, 5. items"),
        ({"control_loss": torch.ones(5, 1)}, "'control_nats' .* is missing"),
        ({"member": torch.ones(5, dtype=torch.bool)}, "a ROC of 5 and 0"),
        ({"nats": torch.full((5,), torch.nan)}, "numbers"),
        ({"has_nats": torch.ones(3, dtype=torch.bool)}, "is of .3, 5. items"),
    ],
)
def test_evidence_that_cannot_be_is_refused(changes, reason):
    """Kinds and lengths of the tensors belong together, and both kinds of items are there."""
    with pytest.raises(MsgmBenchError, match=reason):
        Membership.recompute(evidence(MEMBER, [1, 2, 4, 3, 5], **changes))


@pytest.mark.parametrize(
    ("metric", "changes", "reason"),
    [
        ("membership", {"value": 60.0}, "is not the larger of membership_auc"),
        ("membership_nll_excess", {"value": 1.0}, "is not membership_nll_auc less"),
        ("membership_tpr", {"value": 61.0}, "no whole number of 3 items"),
        ("membership_tpr", {"high": 99.0}, "is not the exact one of 2 of 3"),
    ],
)
def test_rows_that_cannot_be_are_named(metric, changes, reason):
    """Honest rows contradict nothing, and a changed value does."""
    rows = named(Membership.recompute(evidence(MEMBER, [1, 2, 4, 3, 5], [1, 2, 3, 0.5, 4])))
    assert not list(Membership.violations(MeasuredRows({"forget": rows}, {}, {})))
    rows[metric] = rows[metric].model_copy(update=changes)
    (violation,) = Membership.violations(MeasuredRows({"forget": rows}, {}, {}))
    assert reason in violation


def test_the_kits():
    """The task and its metric keep what every task and metric keeps, a kill included."""
    check_task(MembershipTask, {"nodes": 8, "repeats": 2})
    check_metric(Membership, tasks={"membership": MembershipTask.create({"nodes": 4, "count": 16})})
