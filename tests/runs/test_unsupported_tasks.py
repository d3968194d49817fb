"""Models that say how they must be asked: over preset and user, with the model, in the result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch
from cli_harness import FAST_PLUGINS, results, tiny
from tiny_graph import SPEC as TINY_SPEC

from msgm_bench import DataStats, RunSpec, UsageError, run, run_grid
from msgm_bench.boards import read
from msgm_bench.experiment.model_card import CARD, Limits, read_card
from msgm_bench.experiment.model_io import save_model
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.skipped import reasons
from msgm_bench.registry import registry
from msgm_bench.testing import ToyBackbone, toy_images
from msgm_builtin.methods.baselines import Unseen

SPEC = RunSpec(dataset="gaussians", forget="middle", backbone="vesde", method="unseen")
DEMANDS = {"generation": {"sampler": "heun", "nfe": 7}, "nobody's": {"nfe": 1}}


class Particular(Unseen):
    """Makes models that have no likelihood, and that seven evaluations draw from."""

    unsupported_tasks: ClassVar[Mapping[str, str]] = {
        "likelihood": "it was lost",
        "nobody's": "nor this",
    }

    def required_task_options(self, model):
        """Heun's method."""
        return DEMANDS

    def check_data(self, data, targets):
        """Never forgets the left cloud."""
        if 0 in targets:
            raise UsageError("the left cloud")


@pytest.fixture
def particular(monkeypatch):
    """``unseen`` is particular."""
    entry = registry().entry("methods", "unseen")
    monkeypatch.setattr(entry.cls, "unsupported_tasks", Particular.unsupported_tasks)
    monkeypatch.setattr(entry.cls, "required_task_options", Particular.required_task_options)
    monkeypatch.setattr(entry.cls, "check_data", Particular.check_data)


def test_demands_lie_over_preset_and_user(particular):
    """The user's sampler goes with its options, the user's sizes stay; other tasks are ignored."""
    asked = {
        "generation": {"sampler": "pc", "nfe": 30, "sampler_options": {"snr": 0.2}, "count": 64}
    }
    c = (
        resolve(SPEC.model_copy(update={"task_params": asked}))
        .evaluation.tasks["generation"]
        .options
    )
    assert (c.sampler, c.nfe, dict(c.sampler_options), c.count) == ("heun", 7, {}, 64)


def test_lost_tasks_are_left_out_with_the_methods_reason(particular):
    """Among the tasks of the plan, beside those that do not suit the data."""
    plan = resolve(SPEC)
    skipped = reasons(plan.evaluation.skipped, "tasks")
    assert skipped["likelihood"] == "it was lost"
    assert "nobody's" not in skipped
    assert "likelihood" not in plan.evaluation.tasks
    assert "nll" not in {metric.name for metric in plan.evaluation.metrics}


def test_a_forget_set_is_refused_before_training(particular):
    """By the method itself; one that it can forget passes."""
    left = resolve(SPEC).data.classes[0]
    with pytest.raises(UsageError, match="the left cloud"):
        resolve(SPEC.model_copy(update={"forget": (left,)}))


def test_limits_travel_with_the_model(tmp_path):
    """The card holds them, and what evaluates the folder asks accordingly."""
    backbone, info = ToyBackbone.create(), DataStats.of(toy_images())
    torch.manual_seed(0)
    limits = Limits("particular", Particular.unsupported_tasks, DEMANDS)
    save_model(tmp_path, backbone.build(info), backbone, info, limits)
    assert Limits.of_card(read_card(tmp_path)) == limits
    card = json.loads((tmp_path / CARD).read_text("utf-8"))
    assert card["limits"] == json.loads(json.dumps(limits.record()))


def test_models_without_limits_say_nothing(tmp_path):
    """No maker is named, so that two methods with equal weights have equal cards."""
    backbone, info = ToyBackbone.create(), DataStats.of(toy_images())
    save_model(tmp_path, backbone.build(info), backbone, info, Limits("unseen"))
    assert json.loads((tmp_path / CARD).read_text("utf-8"))["limits"] == {}
    assert Limits.of_card(read_card(tmp_path)) == Limits()


# Tasks that are requested by name ----------------------------------------------------------

CLASS_TASK = "quantised_class_generation"
SKIPPED_REQUEST = (
    f"error: the task '{CLASS_TASK}' is skipped in every run (did you mean "
    f"'quantised_generation'?): {CLASS_TASK} is for class-conditional models, and the model is "
    f"unconditional\nallowed: --task membership, quantised_generation\n"
    f"leave --task {CLASS_TASK} out\n"
)


@pytest.fixture
def on_request(fast, cache, monkeypatch, new_registry):
    """The tiny runs with two kinds of tasks on request, of which ``unseen`` does one."""
    names = f"{FAST_PLUGINS},tasks.quantised_generation,tasks.membership"
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", names)
    new_registry.cache_clear()
    cls = registry().entry("methods", "unseen").cls
    monkeypatch.setattr(cls, "unsupported_tasks", {"membership": "it has no error"})


@pytest.mark.parametrize("extra", [(), ("--dry-run",), ("--seed", 0, "--seed", 1)], ids=str)
def test_a_requested_task_that_no_run_does_is_refused(extra, on_request, bench, cache, tmp_path):
    """Before anything is trained, with the reason, the sibling, and the tasks that suit."""
    arguments = tiny("--task", CLASS_TASK, *extra, method=("obt", "standard"))
    code, out, err = bench(*arguments)
    assert (code, out, err) == (2, "", SKIPPED_REQUEST)
    assert not (tmp_path / "runs").exists()
    assert not list(cache.glob("done/*"))


def test_each_method_has_its_reason(on_request, bench, monkeypatch):
    """Where methods differ in why they skip a task; of two such tasks both are named."""
    cls = registry().entry("methods", "obt").cls
    monkeypatch.setattr(cls, "unsupported_tasks", {"membership": "nor has it"})
    tasks = ("--task", "membership", "--task", CLASS_TASK)
    code, _, err = bench(*tiny(*tasks, "--dry-run", method=("obt", "unseen")))
    assert code == 2
    assert "every run: obt: nor has it; unseen: it has no error\n" in err
    assert "leave --task membership out\n" in err
    assert f"leave --task {CLASS_TASK} out\n" in err


def test_an_evaluation_is_refused_as_well(on_request, bench, tmp_path):
    """The limits of a stored model are those of the method that made it."""
    assert bench(*tiny(method="unseen"))[0] == 0
    (folder,) = (tmp_path / "runs").iterdir()
    skip = ("--dataset", "gaussians", "--forget", "middle", "--task", "membership")
    code, _, err = bench("evaluate", folder, *skip, "--dry-run")
    assert code == 2
    assert "'membership' is skipped in every run: it has no error\n" in err


def test_a_task_that_some_runs_skip_is_a_warning(on_request, bench, caplog, tmp_path):
    """One line a task and reason, whatever the number of seeds; the command repeats the run."""
    arguments = tiny("--task", "membership", method=("obt", "unseen"))
    assert bench(*arguments, "--seed", 0, "--seed", 1, "--dry-run")[0] == 0
    assert caplog.messages == ["the task membership is skipped for unseen: it has no error"]
    assert bench(*arguments)[0] == 0
    done = results(tmp_path / "runs")
    commands = {method: r["provenance"]["command"] for (method, _), r in done.items()}
    assert commands["obt"].count("--task membership") == 1
    assert "--task" not in commands["unseen"]


def test_a_spec_file_repeats_a_run_that_skipped_a_task(on_request, bench, caplog, tmp_path):
    """Into the same folder, with the warning: another run of its grid did the task."""
    assert bench(*tiny("--task", "membership", method=("obt", "unseen")))[0] == 0
    (folder,) = (tmp_path / "runs").glob("*unseen*")
    before = (folder / "result.json").read_bytes()
    caplog.clear()
    assert bench("run", folder / "spec.yaml", "--dry-run")[0] == 0
    assert bench("run", folder / "spec.yaml")[0] == 0
    assert caplog.messages == ["the task membership is skipped for unseen: it has no error"] * 2
    assert (folder / "result.json").read_bytes() == before
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == 2


def test_the_library_refuses_it_too(on_request, tmp_path):
    """``run`` and ``run_grid``, unless the request is stored and runs again."""
    spec = TINY_SPEC.model_copy(update={"tasks": (CLASS_TASK,)})
    for function, request in ((run, spec), (run_grid, [spec])):
        with pytest.raises(UsageError, match="is skipped in every run"):
            function(request, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    (result,) = run_grid([spec], tmp_path / "runs", allow_skipped_tasks=True)
    assert result.status == "ok"
    (path,) = (tmp_path / "runs").glob("*/result.json")
    assert "--task" not in read(path).provenance["command"]


def test_runs_of_skipped_methods_do_not_count(on_request, bench):
    """Neither for a task nor against it: such a run does no task at all."""
    arguments = tiny("--task", "membership", "--dry-run", method=("sfd", "unseen"))
    code, _, err = bench(*arguments)
    assert code == 2
    assert "is skipped in every run: it has no error\n" in err
    assert bench(*tiny("--task", CLASS_TASK, "--dry-run", method="sfd"))[0] == 0
