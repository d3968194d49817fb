"""Noise sensitivity: forgetting that one sampler hides is found out, and exact models are alike."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import comb

import pytest
import torch
from contexts import CPU, context
from torch import nn

from msgm_bench import (
    DPMSolverMultistep,
    Evidence,
    IdentityCodec,
    Labels,
    MeasuredRows,
    Model,
    ModelContext,
    MsgmBenchError,
    OptionError,
    VariancePreserving,
    registry,
    wilson,
)
from msgm_bench.experiment.cache_key import task_identity
from msgm_builtin.judges.bayes import Bayes
from msgm_builtin.metrics.noise_sensitivity import NoiseSensitivity as Metric
from msgm_builtin.metrics.worst_setting import Shares, largest_rise, matched_difference
from msgm_builtin.tasks.noise_sensitivity import NoiseSensitivity, SamplerSetting

PROCESS = VariancePreserving()
NO_GRID = {"samplers": (), "noise_scales": ()}


class Exact(nn.Module):
    """The exact eps_hat of the mixture; without its middle at the times ``hidden``."""

    def __init__(self, density, hidden=()):
        super().__init__()
        self.whole, self.rest = (density.eps(PROCESS, chosen) for chosen in (None, [0, 2]))
        self.hidden = torch.tensor(hidden, dtype=torch.float64)

    def forward(self, x_t, t, condition=None):
        """eps_hat of D, or of D_g."""
        hides = bool(((self.hidden - t[0]).abs() < 1e-6).any())
        return (self.rest if hides else self.whole)(x_t, t)


class ExactClasses(nn.Module):
    """The exact eps_hat of each class; asked for the middle without guidance, that of the left."""

    def __init__(self, density):
        super().__init__()
        self.parts = [density.eps(PROCESS, chosen) for chosen in ([0], [1], [2], None)]

    def forward(self, x_t, t, condition=None):
        """With guidance the network sees the null class, too."""
        is_guided = bool((condition == 3).any())
        shown = condition if is_guided else torch.where(condition == 1, 0, condition)
        by_class = torch.stack([part(x_t, t) for part in self.parts])
        return by_class[shown, torch.arange(len(x_t))]


def gaussians(network, conditioning=None):
    """A model of the mixture, whose middle is to be forgotten, under Bayes' rule."""
    options = {"train_size": 100, "test_size": 50_000}
    data = registry.registry().create("datasets", "gaussians", options).load()
    judge = Bayes.create()
    judge.fit(data, 0, CPU)
    retain, forget = data.split(data.test, (1,))
    model = Model(network(data.density), PROCESS, IdentityCodec(8.0), (2,), conditioning)
    return ModelContext(
        model=model.eval(),
        data=data,
        targets=(1,),
        retain=retain,
        forget=forget,
        judge=judge,
        judge_id={"name": "bayes"},
        seed=3,
        device=CPU,
        create=registry.registry().create,
    )


def measured(model_context, **options):
    """Rows by metric."""
    task = NoiseSensitivity.create(options)
    artifact = task.draw(model_context, 0, task.total(model_context))
    return {row.metric: row for row in Metric.create().measure(model_context, task, artifact)}


# What is found out --------------------------------------------------------------------------


def test_a_model_that_hides_from_one_sampler_is_found_out():
    """It lacks the middle at the default sampler's times alone: every other sampler draws it."""
    times = [float(node.t) for node in DPMSolverMultistep(32).nodes(PROCESS, 1.0)]
    rows = measured(
        gaussians(lambda density: Exact(density, times)),
        count=400,
        samplers=("dpmpp_2m_sde", "deis", "heun"),
        budgets=(32, 50),
        noise_scales=(),
    )
    assert rows["ur_default"].high < 8, "outer points that Bayes' rule takes for the middle"
    assert rows["ur_worst"].low > 12
    assert rows["ur_rise"].low > 8
    assert rows["ur_worst"].reason.startswith("at ")
    assert "dpmpp_2m_sde:32" not in rows["ur_worst"].reason
    for label in ("deis:32", "deis:50", "heun:32", "heun:50", "dpmpp_2m_sde:50"):
        assert rows[f"ur_at:{label}"].low > 12, label


def test_guidance_that_brings_a_class_back_is_found_out():
    """A model that answers with another class where it is not guided: UA falls from 100."""
    model_context = gaussians(ExactClasses, Labels(3))
    options = {"count": 200, "nfe": 16, "guidance": 0.0, "weights": (0.0, 1.0)}
    rows = measured(model_context, **NO_GRID, **options)
    assert rows["ua_default"].value > 90
    assert rows["ua_worst"].value == rows["ua_at:dpmpp_2m_sde:16:w1"].value < 50
    assert rows["ua_fall"].low > 30
    assert rows["ua_worst"].direction == "up"


def test_exact_scores_have_one_ratio_whatever_the_sampler():
    """All settings hold the share of true draws that Bayes' rule assigns to the middle."""
    model_context = gaussians(Exact)
    prediction = model_context.judge.predict(model_context.data.test.x)
    truth = 100 * float(((prediction.classes == 1) & prediction.recognised).double().mean())
    options = {"count": 1000, "samplers": ("dpmpp_2m_sde", "deis", "heun", "unipc")}
    rows = measured(model_context, **options, budgets=(50, 100), noise_scales=())
    settings = [row for name, row in rows.items() if name.startswith("ur_at:")]
    assert len(settings) == 9
    for row in settings:
        share = wilson(round(row.value * row.n / 100), row.n, 1 - 0.05 / 9).scaled(100)
        assert share.contains(truth), row.metric
    assert rows["ur_worst"].low <= truth <= rows["ur_worst"].high
    assert rows["ur_rise"].low == 0


# What is drawn ------------------------------------------------------------------------------


def test_the_default_setting_is_the_first_and_each_label_is_there_once():
    """Grid, guidance and scales follow; what equals the default setting is not drawn again."""
    options = {"samplers": ("deis", "dpmpp_2m_sde"), "budgets": (8, 32), "guidance": 1.0}
    task = NoiseSensitivity.create(options)
    plain = [setting.label for setting in task.settings(context().model)]
    grid = ["dpmpp_2m_sde:32", "deis:8", "deis:32", "dpmpp_2m_sde:8"]
    assert plain == [*grid, "deis:32:noise0.9", "deis:32:noise1.1"]
    conditional = gaussians(ExactClasses, Labels(3)).model
    labels = [setting.label for setting in task.settings(conditional)]
    assert labels == [
        *(f"{label}:w1" for label in grid),
        "dpmpp_2m_sde:32:w0",
        "dpmpp_2m_sde:32:w3",
        "deis:32:w1:noise0.9",
        "deis:32:w1:noise1.1",
    ]
    assert [SamplerSetting("a", 4, w).passes for w in (None, 0.0, 2.0)] == [1, 1, 2]


def test_a_default_setting_alone_is_refused():
    """Without budgets, weights and scales there is nothing to compare it with."""
    alone = {"budgets": (), "weights": (), "noise_scales": ()}
    with pytest.raises(OptionError, match="one setting at least"):
        NoiseSensitivity.create(alone)
    assert NoiseSensitivity.create(alone | {"noise_scales": (0.9,)}).options.budgets == ()


def test_weights_alone_skip_a_model_without_a_condition():
    """It has no other setting than the default one, to which nothing could be compared."""
    task = NoiseSensitivity.create({"budgets": (), "noise_scales": (), "weights": (1.0,)})
    assert "one setting, dpmpp_2m_sde:32," in (task.skip(context().model) or "")
    assert task.skip(gaussians(ExactClasses, Labels(3)).model) is None


def test_scaled_noise_scales_what_a_linear_flow_draws():
    """The flow of a Gaussian is affine in x_T: samples at 0.9, 1 and 1.1 are equally far apart."""
    model_context = context(process=VariancePreserving())
    options = {"sampler": "heun", "noise_sampler": "heun", "nfe": 20, "samplers": (), "count": 5}
    task = NoiseSensitivity.create(options)
    x = task.draw(model_context, 0, 15)["x"].double().view(3, 5, -1)
    torch.testing.assert_close(x[2] - x[0], x[0] - x[1], rtol=1e-3, atol=1e-4)
    assert float((x[2] - x[0]).abs().max()) > 0.01


def test_samples_of_all_settings_begin_with_the_same_noise():
    """The same sampler in a longer budget ends close by; chunks that cut through settings agree."""
    model_context = context(process=VariancePreserving())
    options = {"sampler": "heun", "nfe": 60, "samplers": ("heun",), "budgets": (120,)}
    task = NoiseSensitivity.create({**options, "noise_scales": (), "count": 7})
    whole = task.draw(model_context, 0, 14)
    first, second = whole["x"].view(2, 7, -1)
    assert (
        float((first - second).abs().max()) < 0.02 < float((first - second.roll(1, 0)).abs().max())
    )
    parts = [task.draw(model_context, start, count) for start, count in ((0, 5), (5, 6), (11, 3))]
    for name, values in whole.items():
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), values)


def test_the_code_of_every_sampler_is_in_the_key():
    """The artifact is of all samplers of the grid, each with its options."""
    options = {"samplers": ("deis", "heun"), "budgets": (8,), "noise_sampler": "unipc"}
    used = task_identity(NoiseSensitivity.create(options))["uses"]
    names = [(plugin["name"], plugin["options"]["nfe"]) for plugin in used]
    scaled = [("unipc", 32), ("unipc", 32)]
    assert names == [("dpmpp_2m_sde", 32), ("deis", 8), ("heun", 8), *scaled]


# Statistics ---------------------------------------------------------------------------------


def test_settings_that_draw_noise_are_no_candidates():
    """Beyond 5 per cent more than the default's unrecognised share a setting does not count."""
    shares = Shares((10, 60, 40, 50), (20, 26, 25, 25), 100, 0.05)
    assert shares.comparable == [0, 2, 3]
    assert shares.worst == 3
    ends = [wilson(k, 100, 1 - 0.05 / 4) for k in (10, 40, 50)]
    interval = shares.interval
    assert (interval.value, interval.low, interval.high) == (0.5, ends[2].low, ends[2].high)


def test_the_interval_of_the_worst_holds_the_largest_of_equal_shares():
    """Ten settings of one share: the maximum of estimates lies above it, its interval holds it."""
    generator = torch.Generator().manual_seed(4)
    p, n, m, trials = 0.1, 200, 10, 1500
    hits = (torch.rand(trials, m, n, generator=generator) < p).sum(dim=2)
    intervals = [Shares(row, [0] * m, n, 0.0).interval for row in hits.tolist()]
    assert sum(i.contains(p) for i in intervals) / trials > 0.95
    assert sum(i.value for i in intervals) / trials > p + 0.02


@pytest.mark.parametrize(("more", "less"), list(product((0.0, 0.02, 0.2), (0.0, 0.1, 0.3))))
def test_matched_differences_are_held_by_their_interval(more, less):
    """Summed over all outcomes of 30 pairs: 95 % of them hold the true difference, to rounding."""
    n, held = 30, 0.0
    for a in range(n + 1):
        for b in range(n + 1 - a):
            chance = comb(n, a) * comb(n - a, b) * more**a * less**b
            if not chance:
                continue
            first = torch.arange(n) < a
            second = (torch.arange(n) >= a) & (torch.arange(n) < a + b)
            if matched_difference(first, second).contains(more - less):
                held += chance * (1 - more - less) ** (n - a - b)
    assert held > 0.945


def test_a_rise_is_at_least_nothing():
    """Settings that all draw less than the default one: 0 with an interval that begins there."""
    hits = torch.zeros(3, 50, dtype=torch.bool)
    hits[0, :30] = True
    interval = largest_rise(hits, [0, 1, 2])
    assert (interval.value, interval.low, interval.high) == (0.0, 0.0, 0.0)
    hits[2, :40] = True
    interval = largest_rise(hits, [0, 1, 2])
    assert interval.value == pytest.approx(0.2)
    assert 0.05 < interval.low < 0.2 < interval.high < 0.4
    assert largest_rise(hits, [0, 1]).value == 0


# Rows and evidence of strangers ---------------------------------------------------------------


def evidence(**changes):
    """Twelve samples of three settings: none, one and three of four are of class 1."""
    yes = torch.ones(12, dtype=torch.bool)
    tensors = {
        "targets": torch.tensor([1]),
        "samples": torch.tensor([0, 0, 0, 2, 1, 0, 0, 2, 1, 1, 1, 2]),
        "samples_recognised": yes,
    }
    settings = {"settings": ["a:1", "b:1", "c:1"], "unrecognisable_slack": 5.0}
    settings |= changes.pop("settings", {})
    return Evidence(
        "noise_sensitivity", "noise_sensitivity/ur@1", settings, ("b",), tensors | changes
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"settings": {"settings": ["a:1"] * 5}}, "of 12 samples"),
        ({"settings": {"settings": []}}, "of 12 samples"),
        ({"samples": torch.zeros(11, dtype=torch.int64)}, "of .11, 12. items"),
        ({"y": torch.zeros(5, dtype=torch.int64)}, "of .5, 12. items"),
        (
            {"y": torch.full((12,), 7), "samples": torch.zeros(12, 3, dtype=torch.bool)},
            "concepts 7 to 7",
        ),
    ],
)
def test_evidence_that_cannot_be_is_refused(changes, reason):
    """Numbers of samples belong to the settings, and concepts to the judge's."""
    with pytest.raises(MsgmBenchError, match=reason):
        Metric.recompute(evidence(**changes))


def test_the_worst_is_read_off_the_judged_classes():
    """0, 25 and 75 %; a setting that is not recognised is no candidate and still has its rows."""
    rows = {row.metric: row for row in Metric.recompute(evidence())}
    assert [rows[f"ur_at:{name}:1"].value for name in "abc"] == [0, 25, 75]
    assert (rows["ur_worst"].value, rows["ur_rise"].value, rows["ur_default"].value) == (75, 75, 0)
    assert (rows["ur_worst"].reason, rows["ur_rise"].unit) == ("at c:1", "points")
    recognised = torch.arange(12) != 11
    rows = {row.metric: row for row in Metric.recompute(evidence(samples_recognised=recognised))}
    assert rows["ur_worst"].value == 25
    assert rows["ur_worst"].reason == "at b:1; of 1 of 3 settings too little is recognised"
    assert rows["unrecognisable_at:c:1"].value == 25


def test_true_rows_violate_nothing_and_edited_ones_do():
    """The worst, its interval and the rise follow from the rows of the settings."""
    true = {row.metric: row for row in Metric.recompute(evidence())}
    settings = dict(evidence().settings)

    def violations(**changes):
        rows = {k: row.model_copy(update=changes.get(k, {})) for k, row in true.items()}
        return list(Metric.violations(MeasuredRows({"samples": rows}, settings, {})))

    assert violations() == []
    assert "not that of the settings: 75" in violations(ur_worst={"value": 25.0})[0]
    assert "3 settings at once" in violations(ur_worst={"low": 10.0})[0]
    assert "not the difference" in violations(ur_rise={"value": 5.0})[0]
    assert "no whole number" in violations(ur_default={"value": 3.0})[0]


def test_another_limit_is_another_protocol():
    """Slack, settings and judge are in the hash; the tracks have protocols of their own."""
    model_context, task = context(), NoiseSensitivity.create()
    hashes = {
        Metric.create(options).protocol(model_context, NoiseSensitivity.create(more)).hash
        for options in ({}, {"unrecognisable_slack": 1.0})
        for more in ({}, {"noise_scales": ()}, {"count": 5})
    }
    assert len(hashes) == 6
    other = replace(model_context, judge_id={"name": "other"})
    assert Metric.create().protocol(other, task).hash not in hashes
