"""Tuning: equal trials on a task that is not ranked, an optimum that is known, kills, the grid."""

from __future__ import annotations

import json
import math
import os

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from msgm_bench import LinearRange, LogRange, MsgmBenchError, OneOf, UsageError
from msgm_bench.api.result import MetricProtocol, ProtocolRecord, Result, Row
from msgm_bench.boards import build, check
from msgm_bench.boards.tuning_record import TUNING_FILE, read_tuning
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.resolved_spec import ResolvedSpec
from msgm_bench.tuning import plan_tuning, search, tune
from msgm_bench.tuning.draw import draw_options

PLUGIN = """
from pydantic import Field

from msgm_bench import (
    LinearRange, LossMethod, Multiples, Options, OneOf, dsm_loss, hookimpl,
)
from msgm_builtin.datasets.gaussians import Gaussians


class Tiny(Gaussians):
    \"\"\"Three Gaussians with a budget of a second.\"\"\"

    name = "tiny"
    default_preset = "quick"
    presets = {
        "quick": {
            "training": {"steps": 5, "batch_size": 16},
            "backbone": {"network": "mlp", "width": 8, "depth": 1},
            "judge": {"name": "bayes"},
            "tasks": {
                "generation": {"count": 64},
                "likelihood": {"count": 16, "repeats": 1, "divergence": "exact"},
            },
        }
    }


class ToyOptions(Options):
    \"\"\"A number with an optimum.\"\"\"

    x: float = Field(0.9, ge=0, le=1, description="a number")
    kind: str = Field("a", description="a word")


class Toy(LossMethod[ToyOptions]):
    \"\"\"Trains as always.\"\"\"

    name = "toy"
    regimes = ("finetune", "retrain")
    search_space = {
        "x": LinearRange(0.0, 1.0),
        "kind": OneOf(("a", "b")),
        "training.learning_rate": Multiples(0.1, 10.0),
    }

    def loss(self, model, batches, step):
        return dsm_loss(model, batches.retain)


class Plain(Toy):
    \"\"\"Has nothing to tune.\"\"\"

    name = "plain"
    search_space = {}


@hookimpl
def register_datasets():
    return [Tiny]


@hookimpl
def register_methods():
    return [Toy, Plain]
"""
BOARD = {
    "title": "Tiny",
    "summary": "A board for tests.",
    "run": {
        "dataset": "tiny",
        "forget": ["middle"],
        "backbone": "vesde",
        "preset": "quick",
        "dataset_params": {"train_size": 200, "test_size": 100},
    },
    "methods": ["standard", "unseen", "toy", "ort", "plain"],
    "seeds": 2,
    "columns": [{"metric": "ur", "split": "samples"}],
    "rank": {"metric": "ur", "split": "samples"},
    "gate": {
        "reference": "unseen",
        "limits": [{"metric": "nll", "split": "retain", "within": 0.5}],
    },
    "baseline": {
        "method": "standard",
        "bands": [{"metric": "ur", "split": "samples", "low": 0, "high": 100}],
    },
    "commands": ["msgm-bench run --dataset tiny"],
}
UR = MetricProtocol(name="ur/toy")
BEST = 0.3  # x


@pytest.fixture
def board(third_party, fast, cache, tmp_path):
    """The folder of a board without results, of a tiny dataset and a toy method."""
    third_party("third-party-tiny", PLUGIN, "third_party.tiny")
    folder = tmp_path / "board"
    (folder / "results").mkdir(parents=True)
    (folder / "board.yaml").write_text(yaml.safe_dump(BOARD), "utf-8")
    return folder


def toy_row(metric, split, value):
    """A row of a toy result."""
    fields = {"protocol": UR.id, "value": value, "unit": "%", "n": 9, "direction": "down"}
    return Row(task="toy", metric=metric, split=split, **fields)


class ToyGrid:
    """A grid whose UR is known: 100 (x - 0.3)^2 + seed / 100, with any other method at 50.

    Args:
        kill_at: Number of the call at which the user interrupts, from 1; None: never.
    """

    def __init__(self, kill_at=None):
        self.kill_at, self.calls, self.specs = kill_at, 0, []

    def __call__(self, specs, out, executor, trackers, listener, **options):
        """The results."""
        self.calls += 1
        if self.calls == self.kill_at:
            raise KeyboardInterrupt
        self.specs += specs
        return [self.result(spec) for spec in specs]

    def result(self, spec):
        """UR of a parabola, a bound on NLL that ``kind`` b exceeds, and failures for x > 0.95."""
        x = spec.params.get("x")
        ur = 50.0 if x is None else 100 * (x - BEST) ** 2 + spec.seed / 100
        nll = 9.0 if spec.params.get("kind") == "b" else 2.0
        failed = x is not None and x > 0.95
        rows = [toy_row("ur", "samples", ur), toy_row("nll", "retain", nll)]
        return Result(
            status="failed" if failed else "ok",
            reason="diverged" if failed else None,
            spec=ResolvedSpec.of(resolve(spec)),
            metrics=[] if failed else rows,
            protocols={UR.id: ProtocolRecord(hash=UR.hash, settings={})},
        )


@pytest.fixture
def grid(monkeypatch):
    """``grid(kill_at)`` puts a toy grid in the place of the ordinary one."""

    def install(kill_at=None):
        toy = ToyGrid(kill_at)
        monkeypatch.setattr(search, "run_grid", toy)
        return toy

    return install


# Trials -----------------------------------------------------------------------------------

SPACE = {"a": LinearRange(0.0, 1.0), "b": LogRange(1e-3, 1e3), "c": OneOf((None, "x", 3))}
DEFAULTS = {"a": 0.5, "b": 2.0, "c": None}


@given(trials=st.integers(1, 40), fewer=st.integers(1, 40))
def test_more_trials_are_the_same_and_further_ones(trials, fewer):
    """Trial 0 is the preset, and a shorter tuning is the beginning of a longer one."""
    drawn = draw_options("ort", SPACE, DEFAULTS, trials)
    assert len(drawn) == trials
    assert drawn[0] == DEFAULTS
    shorter = draw_options("ort", SPACE, DEFAULTS, min(fewer, trials))
    assert drawn[: len(shorter)] == shorter


def test_trials_spread_evenly():
    """The first coordinate is a base-2 sequence: 2^k points lie one in each 2^k-th part."""
    for method in ("ort", "obt", "salun"):
        drawn = draw_options(method, SPACE, DEFAULTS, 17)[1:]
        assert sorted(math.floor(16 * options["a"]) for options in drawn) == list(range(16))
    assert draw_options("ort", SPACE, DEFAULTS, 2) != draw_options("obt", SPACE, DEFAULTS, 2)


# Search -----------------------------------------------------------------------------------


def test_the_best_trial_is_the_one_next_to_the_optimum(board, grid, tmp_path):
    """Of those within the gate and without a failure; every method has as many trials."""
    toy = grid()
    plan = plan_tuning(board, trials=12, finalists=3)
    assert plan.protocol.run.forget != ["middle"]
    record = tune(plan, board / TUNING_FILE, tmp_path / "runs")
    own = record.methods["toy"]
    sound = [t for t in own.trials if t.options["kind"] == "a" and t.options["x"] <= 0.95]
    nearest = min(sound, key=lambda trial: abs(trial.options["x"] - BEST))
    assert record.best_options("toy") == nearest.options
    assert own.trials[0].options == {"x": 0.9, "kind": "a", "training.learning_rate": 2e-4}
    for name in ("toy", "ort"):
        runs = [spec for spec in toy.specs if spec.method == name]
        assert len(runs) == 12 + 3
        assert {spec.seed for spec in runs} == {100, 101}
        assert {spec.forget for spec in runs} == {tuple(plan.protocol.run.forget)}
    assert record.skipped("plain") == "it declares no search space"
    assert not {spec.method for spec in toy.specs} & {"plain", "standard"}
    assert read_tuning(board / TUNING_FILE).to_json() == record.to_json()


@pytest.mark.parametrize("kill_at", range(1, 6))
def test_a_killed_tuning_goes_on_where_it_was(board, grid, tmp_path, kill_at):
    """The record is that of a tuning without a kill, and no recorded run is run again."""
    plan = plan_tuning(board, trials=6, finalists=2)
    whole = grid()
    tune(plan, tmp_path / "whole.json")
    runs = len([spec for spec in whole.specs if spec.params.get("x", 0) <= 0.95])
    path, killed = board / TUNING_FILE, grid(kill_at)
    with pytest.raises(KeyboardInterrupt):
        tune(plan, path)
    resumed = grid()
    tune(plan, path)
    assert path.read_bytes() == (tmp_path / "whole.json").read_bytes()
    sound = [s for s in (*killed.specs, *resumed.specs) if s.params.get("x", 0) <= 0.95]
    assert len(sound) == len(set(map(repr, sound))) == runs


def test_methods_join_a_record_and_other_code_starts_anew(board, grid, monkeypatch):
    """One method after the other is both at once; a method of other code is tuned again."""
    path = board / TUNING_FILE
    grid()
    for name in ("toy", "ort"):
        record = tune(plan_tuning(board, trials=4, methods=[name]), path)
    assert record.best("toy") is not None
    assert record.best("ort") is not None
    again = grid()
    tune(plan_tuning(board, trials=4, methods=["ort"]), path)
    assert again.specs == []
    original = search.code_digests
    monkeypatch.setattr(search, "code_digests", lambda plan: original(plan) | {"core": "0" * 64})
    tune(plan_tuning(board, trials=4, methods=["ort"]), path)
    assert len([spec for spec in again.specs if spec.method == "ort"]) == 4 + 1


def test_a_reference_that_fails_ends_the_tuning(board, grid, monkeypatch):
    """Nothing can be compared with it, and no trial is run."""
    toy = grid()
    failed = {"status": "failed", "reason": "the disk is full"}
    monkeypatch.setattr(
        toy, "result", lambda spec: Result(**failed, spec=ResolvedSpec.of(resolve(spec)))
    )
    with pytest.raises(MsgmBenchError, match="the disk is full"):
        tune(plan_tuning(board), board / TUNING_FILE)
    assert {spec.method for spec in toy.specs} == {"unseen"}


# Refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"forget": "middle"}, "forgets middle, which the board ranks"),
        ({"forget": "left,middle"}, "forgets middle, which the board ranks"),
        ({"forget": "mittle"}, "did you mean 'middle'"),
        ({"seeds": (1, 100)}, "the seeds 1, which the board ranks"),
        ({"seeds": ()}, "1 to 100 seeds"),
        ({"trials": 2, "finalists": 3}, "3 finalists of 2 trials"),
        ({"methods": ["unseen"]}, "unseen has nothing to tune"),
        ({"seeds": (100, 100)}, "the seed 100 is there twice"),
        ({"methods": ["toi"]}, "did you mean 'toy'"),
    ],
)
def test_what_is_ranked_or_impossible_is_refused(board, grid, options, words):
    """Classes and seeds of the board, numbers that cannot be, baselines, before anything runs."""
    with pytest.raises(UsageError) as caught:
        plan_tuning(board, **options)
    assert words in str(caught.value)


def test_seeds_of_results_are_ranked(board, grid):
    """A seed beyond the board's number of seeds, of a result that stands there, is refused."""
    toy = grid()
    plan = plan_tuning(board, trials=1)
    spec = plan.request("toy", {}, 100).model_copy(update={"forget": ("middle",)})
    (board / "results" / "toy-s100.json").write_text(toy.result(spec).to_json(), "utf-8")
    with pytest.raises(UsageError, match="the seeds 100, which the board ranks"):
        plan_tuning(board, trials=1)


def test_a_record_of_another_tuning_is_refused(board, grid):
    """With what differs; it is not overwritten."""
    grid()
    path = board / TUNING_FILE
    tune(plan_tuning(board, trials=3), path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="its trials is 3, and not 4"):
        tune(plan_tuning(board, trials=4), path)
    assert path.read_bytes() == before


# The command ------------------------------------------------------------------------------


def test_options_of_no_executor_are_refused(board, bench):
    """The message names what the command has: an executor, and no trackers."""
    code, _, err = bench("tune", "--board", board, "-x", "local.workers=2")
    assert code == 2
    assert "-x for local\nallowed: none without --executor\n" in err


def test_the_command_tunes_by_real_runs_and_its_options_pass_the_check(board, bench, tmp_path):
    """Values are those of the run folders; what is printed is what ``board check`` wants."""
    options = ("tune", "--board", board, "--method", "ort", "--trials", "2", "--finalists", "1")
    code, out, err = bench(*options, "--threads", "1")
    assert code == 0, err
    record = read_tuning(board / TUNING_FILE)
    results = [
        Result.model_validate_json(p.read_text()) for p in (tmp_path / "runs").glob("*/result.json")
    ]
    assert len(results) == 2 + 3
    by_digest = {result.digest: result for result in results}
    for trial in record.methods["ort"].trials:
        for run in trial.runs:
            result = by_digest[run.digest]
            assert run.values["ur on samples"] == result.value("ur", "samples")
            assert result.spec.params["alpha"] == trial.options["alpha"]
            rate = result.spec.settings["training"]["learning_rate"]
            assert rate == trial.options["training.learning_rate"]
    _, _, rest = out.partition("In board.yaml:\n")
    stated = yaml.safe_load(rest.partition("In its command:")[0])
    content = BOARD | {"options": stated["options"], "run": BOARD["run"] | stated["run"]}
    (board / "board.yaml").write_text(yaml.safe_dump(content), "utf-8")
    build(board)
    assert [problem.text for problem in check(board) if problem.error] == []
    code, out, err = bench(*options, "--threads", "1", "--json")
    assert code == 0, err
    assert json.loads(out) == json.loads(record.to_json())
    assert "train ort" not in err


def test_tasks_that_a_method_skips_do_not_stop_a_tuning(board, bench, monkeypatch, new_registry):
    """A board requests tasks of all its methods at once; a tuning runs them one by one."""
    plugins = f"{os.environ['MSGM_BENCH_PLUGINS']},tasks.quantised_generation"
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", plugins)
    new_registry.cache_clear()
    run = BOARD["run"] | {"tasks": ["quantised_class_generation"]}
    (board / "board.yaml").write_text(yaml.safe_dump(BOARD | {"run": run}), "utf-8")
    options = ("--method", "ort", "--trials", "1", "--seeds", "100", "--threads", "1")
    code, _, err = bench("tune", "--board", board, *options)
    assert code == 0, err
    record = read_tuning(board / TUNING_FILE)
    assert record.protocol.run.tasks == ["quantised_class_generation"]
    assert [run.status for run in record.methods["ort"].trials[0].runs] == ["ok"]
