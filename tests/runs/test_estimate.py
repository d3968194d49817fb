"""What a run would do, told beforehand, against what a plan and a run then do."""

from __future__ import annotations

import json
from dataclasses import asdict

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
from msgm_bench.cli.estimate import duration
from msgm_bench.cli.tables import console
from msgm_bench.estimate import timing
from msgm_bench.estimate.records import RunEstimate, TaskEstimate, Timing, TrainingEstimate
from msgm_bench.estimate.run_estimate import outline
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.spec import parse_spec
from msgm_builtin.tasks.likelihood import Likelihood

pytestmark = pytest.mark.usefixtures("cache")
DIGITS = {"dataset": "digits", "backbone": "vesde", "forget": "3,7", "method": "obt"}


@pytest.fixture(autouse=True)
def _a_new_console(monkeypatch):
    """Each test has its own standard output, of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    console.cache_clear()


def told(**fields):
    """The outline of a request on digits, without times."""
    return outline(parse_spec(DIGITS | fields), measure=False)


def tasks(found):
    """Tasks by name."""
    return {task.name: task for task in found.tasks}


# Describing -------------------------------------------------------------------------------


def test_it_is_what_the_plan_is():
    """Budgets, judge, tasks, metrics and what is left out are those of the run's own plan."""
    found, plan = told(regime="finetune"), resolve(parse_spec(DIGITS | {"regime": "finetune"}))
    assert [stint.budget for stint in found.training] == [
        trained.budget.model_dump() for trained in (plan.training.base, plan.training)
    ]
    assert [stint.base for stint in found.training] == [True, False]
    assert [stint.methods for stint in found.training] == [["standard"], ["obt"]]
    assert found.judge["options"] == plan.evaluation.judge.options.model_dump(mode="json")
    assert {name: task.options for name, task in tasks(found).items()} == {
        name: task.options.model_dump(mode="json") for name, task in plan.evaluation.tasks.items()
    }
    assert [gauge.name for gauge in found.metrics] == [
        metric.name for metric in plan.evaluation.metrics
    ]
    assert set(found.left_out) == {"class_generation", "frontier_gap"}
    assert found.forget == ["3", "7"]


def test_items_are_those_that_a_run_draws(bench, fast, tmp_path):
    """With the data and D_f known, the numbers of items are exact, and so are evaluations."""
    arguments = tiny(method="unseen", out=tmp_path / "runs")
    assert bench(*arguments)[0] == 0
    rows = results(tmp_path / "runs")["unseen", 0]["metrics"]
    n = {(row["metric"], row["split"]): row["n"] for row in rows}
    code, out, _ = bench("info", *arguments[1 : arguments.index("--out")], "--json", "--no-measure")
    assert code == 0
    found = {task["name"]: task for task in json.loads(out)["tasks"]}
    assert found["likelihood"]["items"] == n["nll", "retain"] + n["nll", "forget"]
    assert found["generation"]["items"] == n["ur", "samples"]
    assert not any(task["at_most"] for task in found.values())


def test_without_what_is_forgotten_sizes_are_bounds():
    """D_g and D_f are each at most all held-out items; samples are as many as ever."""
    found = tasks(told(forget=()))
    assert (found["likelihood"].items, found["likelihood"].at_most) == (890, True)
    assert (found["generation"].items, found["generation"].at_most) == (4000, False)
    few = tasks(told(forget=(), samples=10))
    assert (few["likelihood"].items, few["inpainting"].items) == (20, 20)


def test_without_a_method_all_budgets_are_told():
    """Every method in each of its regimes, those of one budget together, the base's first."""
    found = told(method="")
    groups = {
        regime: {name for s in found.training if s.regime == regime for name in s.methods}
        for regime in ("retrain", "finetune")
    }
    assert found.training[0].methods[0] == "standard"
    assert {"standard", "unseen", "obt", "ort"} <= groups["retrain"]
    assert {"finetune", "obt", "ort"} <= groups["finetune"]
    assert "standard" not in groups["finetune"]
    only = told(method="", regime="finetune")
    assert "unseen" in {name for stint in only.training for name in stint.methods}
    assert {s.regime for s in only.training if "obt" in s.methods} == {"finetune"}


def test_methods_of_the_conditional_track_are_told(bench):
    """info takes --conditional as run does, and then leaves out no method that needs it."""
    words = ("info", *("--dataset", "digits", "--backbone", "ddpm", "--no-measure", "--json"))
    for name in ("esd", "sfd"):
        code, out, _ = bench(*words, "--method", name, "--conditional")
        document = json.loads(out)
        assert code == 0
        assert [stint["methods"] for stint in document["training"]] == [["standard"], [name]]
        assert {"generation", "class_generation"} & {t["name"] for t in document["tasks"]} == {
            "class_generation"
        }
        assert not document["skipped"]
        assert name in json.loads(bench(*words, "--method", name)[1])["skipped"]


def test_what_the_user_says_goes_in():
    """Steps, options of backbone, task, metric and judge are seen in the outline."""
    found = told(
        steps=7,
        backbone_params={"width": 32},
        task_params={"generation": {"sampler": "em", "nfe": 9}},
        metric_params={"clip": {"distance": "cosine"}},
        judge_params={"steps": 3},
    )
    assert {stint.budget["steps"] for stint in found.training} == {7}
    assert found.network["options"]["width"] == 32
    assert (tasks(found)["generation"].sampler, tasks(found)["generation"].nfe) == ("em", 9)
    (clip,) = [gauge for gauge in found.metrics if gauge.name == "clip"]
    assert clip.options["distance"] == "cosine"
    assert found.judge["options"]["steps"] == 3


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
    taken = ode_nll(mixture.eps(process), process, x, Noise(0, 0, 50), rtol=tol, atol=tol).nfe
    model = Model(torch.nn.Identity(), process, IdentityCodec(), (2,))
    cost = Likelihood.create({"rtol": tol, "atol": tol, "divergence": "exact"}).cost(model)
    assert taken / 2 <= cost.nfe <= 2 * taken
    assert (cost.vjps, Likelihood.create({"repeats": 3}).cost(model).vjps) == (2, 1)
    assert cost.assumed


def test_the_bound_costs_its_terms():
    """All steps of the grid, or as many as are asked for; nothing is assumed."""
    model = Model(torch.nn.Identity(), DiscreteDDPM(300), IdentityCodec(), (2,))
    for options, nfe in (({}, 300), ({"timesteps": 20, "repeats": 2}, 40)):
        cost = Likelihood.create({"protocol": "elbo"} | options).cost(model)
        assert (cost.nfe, cost.vjps, cost.assumed) == (nfe, 0, "")


# Measuring --------------------------------------------------------------------------------


def linear(each, calls):
    """Work of ``each`` seconds an item after a slow start."""

    def work(items):
        calls.append(items)
        return [each * items + 5.0, each * items, each * items]

    return work


def test_whole_batches_are_measured():
    """The start does not count; a batch that takes no longer than 40 s is measured as it is."""
    calls = []
    found = timing.pace(linear(0.25, calls), 128)
    assert (found.seconds, found.measured) == (pytest.approx(32.0), 128)
    assert calls == [4, 128]
    assert timing.pace(linear(0.25, []), 3).seconds == pytest.approx(0.75)


def test_long_batches_are_measured_in_part():
    """So many items as take 20 s, in proportion; where not even four do, those four."""
    calls = []
    found = timing.pace(linear(1.0, calls), 400)
    assert (found.seconds, found.measured, calls) == (pytest.approx(400.0), 20, [4, 20])
    calls = []
    found = timing.pace(linear(30.0, calls), 400)
    assert (found.seconds, found.measured, calls) == (pytest.approx(12_000.0), 4, [4])


def test_one_long_repeat_is_enough():
    """Five repeats, or two that take 20 s together, or one of more than 40 s."""
    assert not timing.enough([])
    assert not timing.enough([30.0])
    assert not timing.enough([1.0] * 4)
    assert timing.enough([1.0] * 5)
    assert timing.enough([15.0, 6.0])
    assert timing.enough([41.0])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("x"), "4 items do not fit"),
        (timing._Over(), "not one step within"),
        (parse_spec, "no such thing"),
    ],
)
def test_what_cannot_be_measured_says_why(error, reason):
    """Memory, time and the method's own errors are reasons, no crash."""
    from msgm_bench import IncompatibleError

    raised = error if isinstance(error, Exception) else IncompatibleError("no such thing")

    def work(items):
        raise raised

    found = timing.pace(work, 16)
    assert found.seconds is None
    assert reason in found.reason


def test_estimates_add_up():
    """Steps x step time x batch share; items x evaluations x (forward + products)."""
    budget = {"steps": 1000, "batch_size": 64, "passes": None}
    stint = TrainingEstimate(["a"], False, "retrain", budget)
    assert timing.paced(stint, Timing(0.5, 32, 32), "b").seconds == 1000 * 0.5 * 2
    assert timing.paced(stint, Timing(None, 32, 4, "no"), "b").seconds is None
    of_passes = TrainingEstimate(["a"], False, "retrain", budget | {"passes": 600})
    pace = Timing(0.5, 32, 32, passes=1.5)  # three of batches twice as large: 200 steps of 1 s
    assert timing.paced(of_passes, pace, "b").seconds == pytest.approx(200 * 1.0)
    assert timing.paced(of_passes, Timing(0.5, 32, 32), "b").seconds is None
    task = TaskEstimate("t", "", nfe=10, vjps=3, assumed="", items=200, at_most=False, options={})
    plain, vjp = Timing(1.0, 100, 100), Timing(1.5, 100, 100)
    assert timing.drawing(task, plain, vjp) == pytest.approx(200 / 100 * 10 * (1.0 + 3 * 0.5))
    assert timing.drawing(task, plain, None) is None


def small(**fields):
    """The tiny network on digits, in quick's own budget."""
    options = {"backbone_params": {"width": 16, "depth": 1}, "device": "cpu"}
    return parse_spec(DIGITS | options | fields)


@pytest.mark.parametrize("method", ["obt", "finetune", ""])
def test_real_steps_are_measured(method, cache):
    """Times are positive, of the whole batch; nothing is left behind, no draw is taken away."""
    state = torch.get_rng_state()
    found = outline(small(method=method))
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(cache.glob("*/*"))
    assert found.evaluation.seconds > 0
    assert found.evaluation_vjp.seconds > 0
    for stint in found.training:
        assert stint.pace.measured == stint.pace.batch == 256
        assert stint.seconds == pytest.approx(stint.budget["steps"] * stint.pace.seconds)
        assert stint.paced_by == ("standard" if not method else stint.methods[0])
    assert all(task.seconds > 0 for task in found.tasks)


@pytest.mark.parametrize(("method", "a_step"), [("unseen", 1.0), ("obt", 1.25), ("neggrad", 2.0)])
def test_passes_of_a_step_are_measured(method, a_step, fast):
    """As the formulas say: one, one more at every fourth, and two."""
    (*_, stint) = outline(small(method=method, regime=None, passes=90)).training
    assert stint.pace.passes == pytest.approx(a_step)
    if method != "unseen":
        assert stint.seconds == pytest.approx(90 / a_step * stint.pace.seconds)


def test_a_set_up_that_does_not_end_is_stopped(monkeypatch, probe, fast):
    """A method whose set-up evaluates networks for hours is given up, with the reason."""
    from msgm_builtin.methods.baselines import Unseen

    def setup(self, session):
        batch = session.batch("retain", 0)
        while True:
            session.model.eps(batch.x_t, batch.t)

    monkeypatch.setattr(Unseen, "setup", setup)
    monkeypatch.setattr(timing, "START", 0.05)
    found = outline(small(method="unseen"))
    (stint,) = found.training
    assert stint.seconds is None
    assert "not one step within 0.05 s" in stint.pace.reason
    assert all(task.seconds > 0 for task in found.tasks)


# Showing ----------------------------------------------------------------------------------


TINY = ("--dataset", "digits", "--backbone", "vesde", "-b", "width=16", "-b", "depth=1")


@pytest.mark.parametrize(
    "more", [(), ("--method", "obt", "--forget", "3", "--regime", "finetune"), ("--no-measure",)]
)
def test_it_reads_well(more, bench, fast):
    """80 columns; network, process, budgets, tasks and metrics by name; times if measured."""
    code, out, err = bench("info", *TINY, *more)
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80
    words = " ".join(out.split())
    for word in ("ResidualMLP", "VarianceExploding", "sigma_max", "Training", "Tasks", "standard"):
        assert word in words
    assert "generation heun 50 4,000" in words
    assert "adaptive, 150 a repeat are assumed" in words
    assert ("estimate" in words) == ("--no-measure" not in more)
    if "obt" in more:
        assert "standard (base) retrain 2,000 256 0.001 100 0.995" in words
        assert "obt finetune 1,000 256 0.0005 100 0.995" in words
    else:
        assert "not said" in words


def test_json_is_the_outline(bench, fast):
    """--json prints every field, and nothing else."""
    code, out, _ = bench("info", *TINY, "--no-measure", "--json")
    assert code == 0
    document = json.loads(out)
    assert set(document) == set(RunEstimate.__dataclass_fields__)
    assert document["evaluation"] is None
    assert document["training"][0]["budget"]["steps"] == 2000
    spec = small(method="", forget=())
    assert document == json.loads(json.dumps(asdict(outline(spec, measure=False))))


@pytest.mark.parametrize(
    ("seconds", "said"),
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
def test_durations(seconds, said):
    """In the unit in which two digits say enough."""
    assert duration(seconds) == said
