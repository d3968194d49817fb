"""Relearning: curves of a known area, a model that hides beside one that never knew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from contexts import CPU, context, images
from scipy import stats
from torch import nn
from torch.nn import functional as F

from msgm_bench import (
    IdentityCodec,
    Labels,
    MeasuredRows,
    Model,
    ModelContext,
    VariancePreserving,
    bits_per_dim,
    registry,
)
from msgm_bench.errors import DivergenceError
from msgm_bench.experiment.copy_trainer import CopyTrainer
from msgm_bench.testing import check_metric, check_task
from msgm_bench.testing.toy_text import toy_text_model
from msgm_bench.training import Runtime
from msgm_builtin.judges.bayes import Bayes
from msgm_builtin.metrics.recovery import area, ratio_interval
from msgm_builtin.metrics.relearning import NO_BASE_RATE, NO_CONTROL
from msgm_builtin.metrics.relearning import Relearning as RelearningMetric
from msgm_builtin.metrics.relearning_nll import RelearningNLL
from msgm_builtin.tasks.relearning import Relearning, Unit

STEPS = (1, 3)  # log(1 + S) is 0, log 2 and 2 log 2
SMALL = {"items": (4,), "steps": (1, 2), "restarts": 1, "draws": 8, "nll_items": 2}


def named(rows):
    """Rows by metric."""
    return {row.metric: row for row in rows}


# Curves of known areas --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "rates", "expected"),
    [
        ([0, 5, 80], [0.3, 0.3, 0.3], 0.3),
        ([0, 1, 3], [0, 1, 1], 0.75),
        ([0, 1, 3, 7], [0, 1 / 3, 2 / 3, 1], 0.5),
        ([0, 9], [0.2, 0.6], 0.4),
    ],
)
def test_the_area_is_the_mean_over_the_logarithm(steps, rates, expected):
    """Of a constant the constant, of a line in log(1 + S) its middle, of a jump three quarters."""
    x = torch.tensor(rates, dtype=torch.float64)
    assert float(area(x, steps)) == pytest.approx(expected)
    both = area(torch.stack([x, 2 * x], dim=1), steps)
    assert both.tolist() == pytest.approx([expected, 2 * expected])


def test_the_interval_of_a_ratio():
    """Student's over a constant denominator; the spread of the ratio itself, where that varies."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(2, 0.3, 12), np.full(12, 4.0)
    interval = ratio_interval(torch.tensor(a), torch.tensor(b))
    low, high = stats.t.interval(0.95, 11, a.mean() / 4, stats.sem(a) / 4)
    assert (interval.value, interval.low, interval.high) == pytest.approx((a.mean() / 4, low, high))
    pairs = rng.multivariate_normal((2, 4), [[0.2, 0.1], [0.1, 0.2]], (4000, 50))
    ratios = pairs[:, :, 0].mean(axis=1) / pairs[:, :, 1].mean(axis=1)
    widths = [ratio_interval(*torch.tensor(pair).T).half_width for pair in pairs[:400]]
    assert np.mean(widths) == pytest.approx(stats.t.ppf(0.975, 49) * ratios.std(), rel=0.05)


def drawn(hits, base=8, restarts=2):
    """A task, and an artifact of ten samples a restart of which so many show D_f, by key."""
    options = {"items": (4, 8), "steps": STEPS, "restarts": restarts, "draws": 10 * restarts}
    task, codec = Relearning.create(options), context().model.codec
    bright = images(4)
    x, columns = [], {"source": [], "restart": [], "items": [], "steps": []}
    for unit in task.units:
        key = (unit.source, unit.items, unit.steps)
        count = base if unit.source == "base" else hits.get(key, 0)
        which = torch.where(torch.arange(10) < count, 3, unit.restart)  # 3 is of D_f
        x.append(codec.encode(bright.x[which]))
        columns["source"].append(["base", "model", "forget", "retain"].index(unit.source))
        for name in ("restart", "items", "steps"):
            columns[name].append(getattr(unit, name))
    tensors = {name: torch.tensor(values) for name, values in columns.items()}
    return task, tensors | {"x": torch.stack(x)}


def measured(hits, control=None, **options):
    """The rows of an artifact beside a control's."""
    task, artifact = drawn(hits, **options)
    seen = context() if control is None else replace(context(), control=drawn(control)[1])
    return RelearningMetric.create().measure(seen, task, artifact)


SHALLOW = {("forget", 4, 3): 4, ("forget", 8, 1): 8, ("forget", 8, 3): 10, ("retain", 8, 3): 4}
UNSEEN = {("forget", 8, 1): 0, ("forget", 8, 3): 4}


def test_the_excess_is_the_area_beyond_the_controls():
    """A jump to the base's rate and beyond, which counts as the rate, less a rise to half of it."""
    rows = named(measured(SHALLOW, UNSEEN))
    assert rows["recovery:forget:8"].value == pytest.approx(0.75)
    assert rows["recovery_control:forget:8"].value == pytest.approx(0.125)
    assert rows["relearn_excess"].value == pytest.approx(0.625)
    assert (rows["relearn_excess"].low, rows["relearn_excess"].high) == pytest.approx((0.625,) * 2)
    assert rows["relearn_excess_retain"].value == pytest.approx(0.125)
    assert rows["recovery:forget:4"].value == pytest.approx(0.125)
    assert (rows["relearned:forget:8:1"].value, rows["relearned:forget:8:1"].n) == (80, 20)
    assert rows["relearned:base"].value == 80
    assert rows["relearned:0:0"].value == 0
    assert rows["relearned_control:forget:8:3"].value == 40
    assert (rows["relearn_steps"].value, rows["relearn_steps_control"].value) == (1, 3)
    assert rows["relearn_steps_retain"].value == 3
    assert "0% at most" in rows["relearn_steps_retain_control"].reason
    assert next(iter(rows)) == "relearn_excess"


def test_what_says_nothing_is_null():
    """Without a control there is no excess; without a base that shows D_f there is no area."""
    alone = named(measured(SHALLOW))
    assert alone["relearn_excess"].reason == NO_CONTROL
    assert alone["recovery:forget:8"].value == pytest.approx(0.75)
    blank = named(measured(SHALLOW, UNSEEN, base=0))
    for name in ("relearn_excess", "recovery:forget:8", "relearn_steps"):
        assert blank[name].reason == NO_BASE_RATE
    single = named(measured(SHALLOW, restarts=1))
    assert single["recovery:forget:8"].low is None


def test_impossible_rows_are_refused():
    """A rate, an area or an excess that was changed contradicts the others."""

    def violations(**changes):
        rows = named(measured(SHALLOW, UNSEEN))
        for name, value in changes.items():
            rows[name] = rows[name].model_copy(update={"value": value, "low": None, "high": None})
        return [*RelearningMetric.violations(MeasuredRows({"samples": rows}, {}, {}))]

    assert violations() == []
    assert any("differ by 0.625" in text for text in violations(relearn_excess=0.1))
    assert any("its rates give 0.75" in text for text in violations(**{"recovery:forget:8": 0.1}))
    changed = violations(**{"relearned:forget:8:3": 15.0})
    assert any("recovery:forget:8 is 0.75" in text for text in changed)


# A model that hides, and one that never knew ----------------------------------------------


class Means(nn.Module):
    """eps_hat of N(mu_c, I) for learned means, and an offset of each class that can be shut."""

    def __init__(self, process, means, hidden=()):
        super().__init__()
        self.process = process
        self.means = nn.Embedding.from_pretrained(means, freeze=False)
        self.gate = nn.Embedding.from_pretrained(torch.full((4, 1), -0.05), freeze=False)
        for k in hidden:
            self.gate.weight.data[k] = 0.05

    def forward(self, x_t, t, condition=None):
        """sigma (x_t - a mu) / (a^2 + sigma^2) + 40 max(gate, 0)."""
        a, sigma = (v[:, None] for v in self.process.marginal(t))
        exact = sigma * (x_t - a * self.means(condition)) / (a**2 + sigma**2)
        return exact + 40 * F.relu(self.gate(condition))


def gaussians(folder, unseen=False, hides=False):
    """Class 0 of three Gaussians is to be forgotten: its mean is that of class 2, or it is shut."""
    options = {"train_size": 300, "test_size": 100}
    data = registry.registry().create("datasets", "gaussians", options).load()
    process, judge = VariancePreserving(), Bayes.create()
    judge.fit(data, 0, CPU)
    means = torch.tensor([[-2.0, -2.0], [0.0, 0.0], [2.0, 2.0], [0.0, 0.0]])

    def model(means, hidden=()):
        network = Means(process, means, hidden)
        return Model(network, process, IdentityCodec(8.0), (2,), Labels(3)).eval()

    moved = means[[2 if unseen else 0, 1, 2, 3]]
    subject = model(moved, (0,) if hides else ()).requires_grad_(False)
    retain, forget = data.split(data.test, (0,))
    return ModelContext(
        model=subject,
        base=model(means).requires_grad_(False),
        trainer=CopyTrainer(subject, folder, Runtime(CPU)),
        data=data,
        targets=(0,),
        retain=retain,
        forget=forget,
        judge=judge,
        judge_id=judge.protocol(),
        seed=3,
        device=CPU,
        create=registry.registry().create,
    )


def relearned(seen, **options):
    """A task with a large step size, and its artifact."""
    defaults = {"steps": (1, 4, 16, 64), "learning_rate": 0.1, "nfe": 20, "draws": 200}
    task = Relearning.create(defaults | {"restarts": 2, "nll_items": 2} | options)
    return task, task.draw(seen, 0, task.total(seen))


def test_a_model_that_hides_is_told_from_one_that_never_knew(tmp_path):
    """Neither draws the class; one step opens the gate, while a mean has a long way to go."""
    task, never = relearned(gaussians(tmp_path, unseen=True))
    seen = replace(gaussians(tmp_path, hides=True), control=never)
    _, hidden = relearned(seen)
    rows = named(RelearningMetric.create().measure(seen, task, hidden))
    jump = 1 - 0.5 * np.log(2) / np.log(65)
    assert rows["relearned:0:0"].value == rows["relearned_control:0:0"].value == 0
    assert rows["recovery:forget:64"].value == pytest.approx(jump, abs=0.1)
    assert rows["recovery_control:forget:64"].value < 0.4
    assert rows["relearn_steps"].value == 1 < rows["relearn_steps_control"].value
    assert rows["relearn_excess"].low > 0.3
    assert abs(rows["relearn_excess_retain"].value) < 0.05  # no item of D_g opens the gate
    likelihoods = named(RelearningNLL.create().measure(seen, task, hidden))
    assert likelihoods["relearn_nll:forget:64:1"].value == pytest.approx(
        likelihoods["relearn_nll:base"].value, abs=0.1
    )
    early, known = likelihoods["relearn_nll_control:forget:64:1"], likelihoods["relearn_nll:base"]
    assert early.value > known.value + 1
    assert likelihoods["relearn_nll_excess"].n == 4


def test_a_model_that_never_knew_has_no_excess(tmp_path):
    """It is its own control: the same noise, item for item."""
    seen = gaussians(tmp_path, unseen=True)
    task, never = relearned(seen, steps=(1, 4))
    seen = replace(seen, control=never)
    row = named(RelearningMetric.create().measure(seen, task, never))["relearn_excess"]
    assert (row.value, row.low, row.high) == (0, 0, 0)


def test_a_copy_that_diverges_is_told_from_the_model(tmp_path):
    """The error is of the task's training, and names its learning rate."""
    seen = gaussians(tmp_path)
    task = Relearning.create({"steps": (5,), "learning_rate": 1e38, "restarts": 1, "draws": 1})
    with pytest.raises(DivergenceError, match="the copy that a task trains") as caught:
        task.draw(seen, 0, task.total(seen))
    assert "a smaller learning rate of the task than 1e+38" in str(caught.value)


def test_likelihoods_are_those_of_the_density(tmp_path):
    """The base's NLL of every held-out item of D_f is the exact one, but for 32 nodes."""
    seen = gaussians(tmp_path)
    task = Relearning.create({"restarts": 1, "nll_items": 60, "draws": 1})
    nats = task.draw(seen, 0, 1)["nats"][0]
    exact = -seen.data.density.log_prob(seen.forget.x, [0])
    torch.testing.assert_close(
        nats.double().sort().values, exact.double().sort().values, atol=0.05, rtol=0
    )
    rows = named(RelearningNLL.create().measure(seen, task, one_unit(task, seen)))
    mean = float(bits_per_dim(nats.double(), 2, 8.0).mean())
    assert rows["relearn_nll:base"].value == pytest.approx(mean)


def one_unit(task, seen):
    """The artifact with steps of no length: every unit's likelihoods are the base's."""
    parts = [task.draw(seen, 0, 1) for _ in task.units]
    artifact = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    order = {"base": 0, "model": 1, "forget": 2, "retain": 3}
    columns = [[order[u.source], u.items, u.steps] for u in task.units]
    for name, values in zip(("source", "items", "steps"), zip(*columns, strict=True), strict=True):
        artifact[name] = torch.tensor(values)
    return artifact


# The task ---------------------------------------------------------------------------------


def test_units_are_base_model_and_trainings():
    """The base and the model as it is come first in each restart, then both adversaries."""
    units = Relearning.create({"items": (2, 4), "steps": (1, 3), "restarts": 2}).units
    budgets = [(2, 1), (2, 3), (4, 1), (4, 3)]
    first = [Unit(0, "base"), Unit(0, "model")]
    first += [Unit(0, source, *budget) for source in ("forget", "retain") for budget in budgets]
    assert units == first + [replace(unit, restart=1) for unit in first]
    alone = Relearning.create({"benign": False, "restarts": 1}).units
    assert {unit.source for unit in alone} == {"base", "model", "forget"}


def test_what_a_copy_trains_on(tmp_path):
    """Items of its split alone, more of them with the fewer among them; as many as there are."""
    seen, task = gaussians(tmp_path), Relearning.create({"items": (8, 16)})
    for source, classes in (("forget", {0}), ("retain", {1, 2})):
        few, many = (task._items(seen, Unit(0, source, n, 1), 7) for n in (8, 16))
        assert torch.equal(few.x, many.x[:8])
        assert len(many) == 16
        assert set(many.y.tolist()) <= classes
    every = task._items(seen, Unit(0, "forget", 10_000, 1), 7)
    assert len(every) == int((seen.data.train.y == 0).sum())


def test_all_models_draw_from_the_same_noise(tmp_path):
    """The base and an equal model draw the same samples, and a restart draws others."""
    task, artifact = relearned(gaussians(tmp_path), steps=(1,), restarts=2, draws=8)
    base, model = artifact["x"][:2]
    assert torch.equal(base, model)
    assert not torch.equal(base, artifact["x"][len(task.units) // 2])
    assert artifact["x"].shape == (8, 4, 2)
    assert set(artifact["y"].flatten().tolist()) == {0}


def test_prompts_have_a_task_of_their_own():
    """Text-to-image models are skipped, with its name."""
    assert "prompt_relearning" in Relearning.create().skip(toy_text_model())


def test_a_likelihood_that_fails_is_null_in_the_difference(tmp_path):
    """One infinite item leaves no mean, of the model or of both, and no NaN."""
    seen = gaussians(tmp_path)
    task, artifact = relearned(seen, steps=(1,), restarts=1, draws=2)
    failed = {**artifact, "nats": artifact["nats"].clone()}
    failed["nats"][2, 0] = torch.inf  # after the training on D_f
    for control in (artifact, failed):
        rows = named(RelearningNLL.create().measure(replace(seen, control=control), task, failed))
        assert rows["relearn_nll:forget:64:1"].reason == "1 of 2 integrations failed"
        assert rows["relearn_nll_excess"].reason == "1 of 2 integrations failed"


def test_without_items_there_is_no_likelihood(tmp_path):
    """nll_items = 0: the metric of likelihoods is null with the reason."""
    seen = gaussians(tmp_path)
    task, artifact = relearned(seen, steps=(1,), restarts=1, draws=4, nll_items=0)
    assert "nats" not in artifact
    (row,) = RelearningNLL.create().measure(seen, task, artifact)
    assert "nll_items is 0" in row.reason


def test_the_kit():
    """The task and its metrics keep what every task and metric keeps, a kill included."""
    check_task(Relearning, SMALL)
    tasks = {"relearning": Relearning.create(SMALL | {"nfe": 24})}
    check_metric(RelearningMetric, tasks=tasks)
    check_metric(RelearningNLL, tasks=tasks)
