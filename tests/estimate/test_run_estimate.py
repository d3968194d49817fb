"""Estimates of a run against its plan and against the run itself."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from cli_harness import results, tiny

from msgm_bench import (
    DiscreteDDPM,
    GaussianMixture,
    IdentityCodec,
    Model,
    Noise,
    VarianceExploding,
    VariancePreserving,
    ode_nll,
)
from msgm_bench.cli.estimate import busy_rows, duration, print_estimate
from msgm_bench.cli.tables import console
from msgm_bench.estimate import measurement, timing
from msgm_bench.estimate.measurement import Reading
from msgm_bench.estimate.records import RunEstimate, TaskEstimate, Timing, TrainingEstimate
from msgm_bench.estimate.run_estimate import estimate_run
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.spec import parse_spec
from msgm_bench.registry import registry
from msgm_builtin.tasks.likelihood import Likelihood

pytestmark = pytest.mark.usefixtures("cache")
TEXT_TASKS = (
    "drift",
    "embedding_attack",
    "prompt_attack",
    "prompt_generation",
    "prompt_relearning",
)
DIGITS = {"dataset": "digits", "backbone": "vesde", "forget": "3,7", "method": "obt"}


@pytest.fixture(autouse=True)
def _a_new_console(monkeypatch):
    """Each test has its own standard output, of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    console.cache_clear()


def estimate(**fields):
    """Estimate of a request on digits, without times."""
    return estimate_run(parse_spec(DIGITS | fields), measure=False)


def tasks(run_estimate):
    """Tasks by name."""
    return {task.name: task for task in run_estimate.tasks}


# Facts ------------------------------------------------------------------------------------


def test_it_is_what_the_plan_is():
    """Budgets, judge, tasks, metrics and what is left out are those of the run's own plan."""
    result, plan = estimate(regime="finetune"), resolve(parse_spec(DIGITS | {"regime": "finetune"}))
    assert [training.budget for training in result.training] == [
        trained.budget.model_dump() for trained in (plan.training.base, plan.training)
    ]
    assert [training.base for training in result.training] == [True, False]
    assert [training.methods for training in result.training] == [["standard"], ["obt"]]
    assert result.judge["options"] == plan.evaluation.judge.options.model_dump(mode="json")
    assert {name: task.options for name, task in tasks(result).items()} == {
        name: task.options.model_dump(mode="json") for name, task in plan.evaluation.tasks.items()
    }
    assert [metric.name for metric in result.metrics] == [
        metric.name for metric in plan.evaluation.metrics
    ]
    assert set(result.skipped) == {"class_generation", "frontier_gap", *TEXT_TASKS}
    assert result.forget == ["3", "7"]


def test_items_are_those_that_a_run_draws(bench, fast, tmp_path):
    """With the data and D_f known, the numbers of items are exact, and so are evaluations."""
    arguments = tiny(method="unseen", out=tmp_path / "runs")
    assert bench(*arguments)[0] == 0
    rows = results(tmp_path / "runs")["unseen", 0]["metrics"]
    n = {(row["metric"], row["split"]): row["n"] for row in rows}
    code, out, _ = bench("info", *arguments[1 : arguments.index("--out")], "--json", "--no-measure")
    assert code == 0
    result = {task["name"]: task for task in json.loads(out)["tasks"]}
    assert result["likelihood"]["items"] == n["nll", "retain"] + n["nll", "forget"]
    assert result["generation"]["items"] == n["ur", "samples"]
    assert not any(task["is_upper_bound"] for task in result.values())


def test_without_what_is_forgotten_sizes_are_bounds():
    """D_g and D_f are each at most all held-out items; samples are as many as ever."""
    result = tasks(estimate(forget=()))
    assert (result["likelihood"].items, result["likelihood"].is_upper_bound) == (890, True)
    assert (result["generation"].items, result["generation"].is_upper_bound) == (4000, False)
    subset = tasks(estimate(forget=(), samples=10))
    assert (subset["likelihood"].items, subset["inpainting"].items) == (20, 20)


def test_without_a_method_the_estimate_has_all_budgets():
    """Every method in each of its regimes, those of one budget together, the base's first."""
    result = estimate(method="")
    groups = {
        regime: {name for s in result.training if s.regime == regime for name in s.methods}
        for regime in ("retrain", "finetune")
    }
    assert result.training[0].methods[0] == "standard"
    assert {"standard", "unseen", "obt", "ort"} <= groups["retrain"]
    assert {"finetune", "obt", "ort"} <= groups["finetune"]
    assert "standard" not in groups["finetune"]
    only = estimate(method="", regime="finetune")
    assert "unseen" in {name for training in only.training for name in training.methods}
    assert {s.regime for s in only.training if "obt" in s.methods} == {"finetune"}


def test_methods_of_the_conditional_track(bench):
    """info takes --conditional as run does, and then leaves out no method that needs it."""
    words = ("info", *("--dataset", "digits", "--backbone", "ddpm", "--no-measure", "--json"))
    for name in ("esd", "sfd"):
        code, out, _ = bench(*words, "--method", name, "--conditional")
        document = json.loads(out)
        assert code == 0
        assert [training["methods"] for training in document["training"]] == [["standard"], [name]]
        assert {"generation", "class_generation"} & {t["name"] for t in document["tasks"]} == {
            "class_generation"
        }
        assert name not in document["skipped"]
        assert name in json.loads(bench(*words, "--method", name)[1])["skipped"]


def test_options_of_the_request():
    """Steps, options of backbone, task, metric and judge are in the estimate."""
    result = estimate(
        steps=7,
        backbone_params={"width": 32},
        task_params={"generation": {"sampler": "em", "nfe": 9}},
        metric_params={"clip": {"distance": "cosine"}},
        judge_params={"steps": 3},
    )
    assert {training.budget["steps"] for training in result.training} == {7}
    assert result.network["options"]["width"] == 32
    assert (tasks(result)["generation"].sampler, tasks(result)["generation"].nfe) == ("em", 9)
    (clip,) = [metric for metric in result.metrics if metric.name == "clip"]
    assert clip.options["distance"] == "cosine"
    assert result.judge["options"]["steps"] == 3


@pytest.mark.parametrize("tol", [1e-2, 1e-3, 1e-5])
@pytest.mark.parametrize(
    "process", [VarianceExploding(0.01, 9.0), VariancePreserving(), DiscreteDDPM()]
)
def test_assumed_evaluations_are_those_of_the_solver(process, tol):
    """On a mixture dopri5 takes between half and twice the evaluations that are assumed."""
    mixture = GaussianMixture(
        torch.tensor([0.4, 0.2, 0.4]),
        torch.tensor([[-2.0, -2.0], [0.0, 0.0], [2.0, 2.0]]),
        torch.eye(2).expand(3, 2, 2),
    )
    x, _ = mixture.sample(50, torch.Generator().manual_seed(0))
    evaluations = ode_nll(mixture.eps(process), process, x, Noise(0, 0, 50), rtol=tol, atol=tol).nfe
    model = Model(torch.nn.Identity(), process, IdentityCodec(), (2,))
    cost = Likelihood.create({"rtol": tol, "atol": tol, "divergence": "exact"}).cost(model)
    assert evaluations / 2 <= cost.nfe <= 2 * evaluations
    assert (cost.vjps, Likelihood.create({"repeats": 3}).cost(model).vjps) == (2, 1)
    assert cost.assumed


def test_the_bound_costs_its_terms():
    """The bound costs all steps of the grid, or the ``timesteps``; nothing is assumed."""
    model = Model(torch.nn.Identity(), DiscreteDDPM(300), IdentityCodec(), (2,))
    for options, nfe in (({}, 300), ({"timesteps": 20, "repeats": 2}, 40)):
        cost = Likelihood.create({"protocol": "elbo"} | options).cost(model)
        assert (cost.nfe, cost.vjps, cost.assumed) == (nfe, 0, "")


# Times ------------------------------------------------------------------------------------


def linear(seconds, calls=None):
    """Readings of ``seconds`` an item, the first one slower, the others disturbed in turn."""

    def repeats(items, limit):
        calls.append((items, limit))
        plain = Reading(seconds * items, seconds * items / 2, seconds * items / 4)
        slow = replace(plain, seconds=3 * plain.seconds)
        return [replace(plain, seconds=plain.seconds + 5), slow, plain, slow]

    calls = [] if calls is None else calls
    return repeats


def test_the_least_repeat_of_a_whole_batch_counts():
    """Neither the start nor a repeat in which others had the core; CPU times are of the same."""
    calls = []
    result = measurement.time_batch(linear(0.25, calls), 128, limit=80)
    assert [items for items, _ in calls] == [4, 128]
    assert (result.seconds, result.measured) == (pytest.approx(32.0), 128)
    assert (result.process_seconds, result.share) == (pytest.approx(16.0), pytest.approx(0.25))
    assert measurement.time_batch(linear(0.25), 3, limit=80).seconds == pytest.approx(0.75)


def test_long_batches_are_measured_in_part():
    """So many items as can be repeated within the limit, in proportion; else the trial's four."""
    calls = []
    result = measurement.time_batch(linear(1.0, calls), 400, limit=40.5)
    assert (result.seconds, result.measured) == (pytest.approx(400.0), 20)
    assert [items for items, _ in calls] == [4, 20]
    assert calls[0][1] == 40.5 / 2
    result = measurement.time_batch(linear(30.0), 400, limit=40)
    assert (result.seconds, result.measured) == (pytest.approx(12_000.0), 4)


def test_a_whole_batch_that_is_stopped_leaves_the_trial():
    """Where no repeat of the batch ends in time, the few items of the trial stand for it."""

    def repeats(items, limit):
        return linear(0.1)(items, limit) if items == 4 else []

    result = measurement.time_batch(repeats, 8, limit=10)
    assert (result.seconds, result.measured) == (pytest.approx(0.8), 4)
    assert measurement.time_batch(lambda *_: [], 8, limit=10).seconds is None


def test_steps_of_unequal_passes_are_kinds_of_their_own():
    """Mean over the kinds of their least: (3 x 1 s + 1 x 2 s) / 4, and 1.25 passes."""
    start = Reading(9.0, 9.0, 9.0, 4.0)
    one, two = (Reading(float(p), p / 2, p / 4, float(p)) for p in (1, 2))
    slow = replace(one, seconds=5.0)
    result = measurement.summary([start, one, slow, one, two])
    assert measurement.times(result) == pytest.approx((1.25, 0.625, 0.3125))
    assert result.passes == 1.25
    assert measurement.summary([start]) == start


def test_repeats_are_whole_periods_that_take_long_enough():
    """A multiple of twelve beside the first, which takes a fifth of a second or more."""

    def enough(n, seconds):
        return measurement.has_enough([Reading(seconds, 0, 0)] * n)

    assert [n for n in range(1, 40) if enough(n, 1.0)] == [13, 25, 37]
    assert not enough(13, 0.001)


def test_measurements_share_the_time(monkeypatch):
    """Each has an equal part of what is left, and what one does not use is for the others."""
    now = iter([0.0, 0.0, 1.0, 9.0, 99.0])
    monkeypatch.setattr(measurement.time, "monotonic", lambda: next(now))
    budget = measurement.TimeBudget(12.0, 4)
    assert [budget.next() for _ in range(4)] == [3.0, pytest.approx(11 / 3), 1.5, 0.0]


def test_a_stopwatch_tells_work_from_waiting():
    """Sleeping takes wall time and no CPU time; the time limit ends repeats."""
    watch = measurement.Stopwatch(torch.device("cpu"), limit=0.0)
    measurement.time.sleep(0.05)
    with pytest.raises(measurement.Stop):
        watch.read()
    (reading,) = watch.readings
    assert reading.seconds >= 0.05
    assert reading.thread_seconds < 0.05
    assert measurement.share(reading) < 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("x"), "4 items do not fit"),
        (measurement.Stop(), "not one step within 4 s"),
        (parse_spec, "no such thing"),
    ],
)
def test_what_cannot_be_measured_says_why(error, reason):
    """Memory, time and the method's own errors are reasons, no crash."""
    from msgm_bench import IncompatibleError

    raised = error if isinstance(error, Exception) else IncompatibleError("no such thing")

    def repeats(items, limit):
        raise raised

    result = measurement.time_batch(repeats, 16, limit=8)
    assert result.seconds is None
    assert reason in result.reason


def test_estimates_add_up():
    """Steps x step time x batch share; items x evaluations x (forward + products)."""
    budget = {"steps": 1000, "batch_size": 64, "passes": None}
    training = TrainingEstimate(["a"], False, "retrain", budget)
    assert timing.with_step_timing(training, Timing(0.5, 32, 32), "b").seconds == 1000 * 0.5 * 2
    assert timing.with_step_timing(training, Timing(None, 32, 4, "no"), "b").seconds is None
    of_passes = TrainingEstimate(["a"], False, "retrain", budget | {"passes": 600})
    pace = Timing(0.5, 32, 32, passes=1.5)  # three of batches twice as large: 200 steps of 1 s
    assert timing.with_step_timing(of_passes, pace, "b").seconds == pytest.approx(200 * 1.0)
    assert timing.with_step_timing(of_passes, Timing(0.5, 32, 32), "b").seconds is None
    task = TaskEstimate(
        "t", "", nfe=10, vjps=3, assumption="", items=200, is_upper_bound=False, options={}
    )
    plain, vjp = Timing(1.0, 100, 100), Timing(1.5, 100, 100)
    assert timing.drawing_seconds(task, plain, vjp) == pytest.approx(
        200 / 100 * 10 * (1.0 + 3 * 0.5)
    )
    assert timing.drawing_seconds(task, plain, None) is None


def small(**fields):
    """The tiny network on digits, in quick's own budget."""
    options = {"backbone_params": {"width": 16, "depth": 1}, "device": "cpu"}
    return parse_spec(DIGITS | options | fields)


@pytest.mark.parametrize("method", ["obt", "finetune", ""])
def test_real_steps_are_measured(method, cache):
    """Times are positive, of the whole batch; nothing is left behind, no draw is taken away."""
    state = torch.get_rng_state()
    result = estimate_run(small(method=method))
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(cache.glob("*/*"))
    assert result.evaluation.seconds > 0
    assert result.evaluation_vjp.seconds > 0
    for training in result.training:
        assert training.step_timing.measured == training.step_timing.batch == 256
        assert training.seconds == pytest.approx(
            training.budget["steps"] * training.step_timing.seconds
        )
        assert training.timed_method == ("standard" if not method else training.methods[0])
    assert all(task.seconds > 0 for task in result.tasks)


def test_a_closed_form_has_its_preparation_steps_alone(monkeypatch, fast, capsys):
    """Three steps of its preparation take three times one, whatever the budget says."""
    cls = registry().entry("methods", "finetune").cls
    monkeypatch.setattr(cls, "closed_form", True)
    monkeypatch.setattr(cls, "num_preparation_steps", lambda self, session: 3)
    result = estimate_run(small(method="finetune"))
    base, training = result.training
    assert (base.closed_form, training.closed_form) == (False, True)
    assert (base.step_timing.steps, training.step_timing.steps) == (None, 3)
    assert training.seconds == 3 * training.step_timing.seconds
    print_estimate(result)
    text = capsys.readouterr().out
    assert "closed form" in text
    assert "finetune prepares in 3 steps of" in text
    budget = {"steps": 1000, "batch_size": 64, "passes": 9}
    training = TrainingEstimate(["c"], False, "finetune", budget, closed_form=True)
    timed = timing.with_step_timing(training, Timing(0.5, 1, 1, steps=3), "c")
    assert timed.seconds == 3 * 0.5
    other = Timing(0.5, 32, 32)  # of another method
    assert timing.with_step_timing(training, other, "b").seconds is None


@pytest.mark.parametrize(("method", "a_step"), [("unseen", 1.0), ("obt", 1.25), ("neggrad", 2.0)])
def test_passes_of_a_step_are_measured(method, a_step, fast):
    """As the formulas say: one, one more at every fourth, and two."""
    (*_, training) = estimate_run(small(method=method, regime=None, passes=90)).training
    assert training.step_timing.passes == pytest.approx(a_step)
    if method != "unseen":
        assert training.seconds == pytest.approx(90 / a_step * training.step_timing.seconds)


def test_a_set_up_that_does_not_end_is_stopped(monkeypatch, probe, fast):
    """A method whose set-up evaluates networks for hours is given up, with the reason."""
    from msgm_builtin.methods.baselines import Unseen

    def setup(self, session):
        batch = session.batch("retain", 0)
        while True:
            session.model.eps(batch.x_t, batch.t)

    monkeypatch.setattr(Unseen, "setup", setup)
    monkeypatch.setattr(timing, "MEASURE_SECONDS", 2.0)
    result = estimate_run(small(method="unseen"))
    (training,) = result.training
    assert training.seconds is None
    assert "not one step within" in training.step_timing.reason
    assert all(task.seconds > 0 for task in result.tasks)


def test_a_busy_machine_is_named():
    """The share of a core, and the estimate of a quiet machine: each time by its own share."""
    result = estimate()
    busy = Timing(1.0, 256, 256, process_seconds=0.5, share=0.5)
    result = replace(
        result,
        training=[replace(t, step_timing=busy, seconds=60.0) for t in result.training],
        tasks=[replace(task, seconds=10.0) for task in result.tasks],
        evaluation=replace(busy, share=0.25),
    )
    n = len(result.tasks)
    words = " ".join(text for _, text in busy_rows(result))
    quiet = len(result.training) * 60 * 0.5 + n * 10 * 0.25
    assert "had 25 % of the time of a core" in words
    assert words.endswith(f"about {duration(quiet)}")
    alone = replace(busy, share=1.0)
    training = [replace(t, step_timing=alone) for t in result.training]
    assert not list(busy_rows(replace(result, training=training, evaluation=alone)))


# Printing ---------------------------------------------------------------------------------


TINY = ("--dataset", "digits", "--backbone", "vesde", "-b", "width=16", "-b", "depth=1")


@pytest.mark.parametrize(
    "more", [(), ("--method", "obt", "--forget", "3", "--regime", "finetune"), ("--no-measure",)]
)
def test_it_reads_well(more, bench, fast):
    """80 columns; network, process, budgets, tasks and metrics by name; times if measured."""
    code, out, err = bench("info", *TINY, "-t", "likelihood.solver=dopri5", *more)
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80
    words = " ".join(out.split())
    for word in ("ResidualMLP", "VarianceExploding", "sigma_max", "Training", "Tasks", "standard"):
        assert word in words
    assert "generation dpmpp_2m_sde 32 4,000" in words
    assert "adaptive: 150 evaluations a repeat are assumed" in words
    assert ("estimate" in words) == ("--no-measure" not in more)
    if "obt" in more:
        assert "standard (base) retrain 2,000 256 0.001 100 0.995" in words
        assert "obt finetune 1,000 256 0.0005 100 0.995" in words
    else:
        assert "open: name classes" in words


def test_json_is_the_estimate(bench, fast):
    """--json prints every field, and nothing else."""
    code, out, _ = bench("info", *TINY, "--no-measure", "--json")
    assert code == 0
    document = json.loads(out)
    assert set(document) == set(RunEstimate.__dataclass_fields__)
    assert document["evaluation"] is None
    assert document["training"][0]["budget"]["steps"] == 2000
    spec = small(method="", forget=())
    again = json.loads(json.dumps(asdict(estimate_run(spec, measure=False))))
    for record in (document, again):
        del record["hardware"]["peak_memory_mib"]  # of this process so far
    assert document == again


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"),
        (0.034, "0.034 s"),
        (9.6, "9.6 s"),
        (100.0, "100 s"),
        (150.0, "2.5 min"),
        (3_000.0, "50 min"),
        (9_000.0, "2.5 h"),
        (1e6, "12 days"),
        (1e9, "32 years"),
    ],
)
def test_durations(seconds, text):
    """A duration has the unit in which two digits are enough."""
    assert duration(seconds) == text
