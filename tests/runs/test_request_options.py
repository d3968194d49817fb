"""Options of judges, metrics and presets: who wins, what is remembered, what is left out."""

from __future__ import annotations

import shlex

import pytest
import yaml
from cli_harness import only, tiny

from msgm_bench import IncompatibleError, OptionError, OptionText, RunSpec, UsageError
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.skipped import reasons
from msgm_bench.experiment.spec import expand, parse_spec
from msgm_bench.report.provenance import rerun_command
from msgm_bench.runner import dry_run
from msgm_builtin.datasets.digits import Digits
from msgm_builtin.datasets.image_folder import ImageFolder

DIGITS = {"dataset": "digits", "forget": "3,7", "backbone": "vesde", "method": "unseen"}
POINTS = DIGITS | {"dataset": "gaussians", "forget": "middle"}


def spec(**changes):
    """A request on digits."""
    return RunSpec.model_validate(DIGITS | changes)


def metric(plan, name):
    """The options of a metric of the plan."""
    (found,) = [metric for metric in plan.evaluation.metrics if metric.name == name]
    return found.options


# Judge and metrics ------------------------------------------------------------------------


def test_the_users_judge_options_win():
    """-j lies above the preset; the budget of the models is none of the judge's."""
    judge = resolve(spec(judge_params={"width": 8})).evaluation.judge
    assert (judge.name, judge.options.width, judge.options.steps) == ("classifier", 8, 600)
    assert resolve(spec(steps=5)).evaluation.judge.options.steps == 600
    assert resolve(spec(steps=5, judge_params={"steps": 7})).evaluation.judge.options.steps == 7


def test_judge_options_lie_above_the_presets(monkeypatch):
    """The preset's width is kept beside -j steps; one that does not suit is refused."""
    preset = {"judge": {"name": "classifier", "width": 10}}
    monkeypatch.setitem(Digits.presets, "quick", {**Digits.presets["quick"], **preset})
    assert resolve(spec(judge_params={"steps": 3})).evaluation.judge.options.width == 10
    assert resolve(spec(judge_params={"name": "classifier"})).evaluation.judge.options.width == 10
    with pytest.raises(IncompatibleError, match="'bayes' needs a dataset with an exact density"):
        resolve(spec(judge_params={"name": "bayes"}))


def test_metric_options_lie_above_the_presets(monkeypatch):
    """-m reaches one metric only, and merges with what the preset says of it."""
    preset = {"metrics": {"clip": {"distance": "cosine", "embedder_options": {"a": 1}}}}
    monkeypatch.setitem(Digits.presets, "quick", {**Digits.presets["quick"], **preset})
    monkeypatch.setattr("msgm_builtin.metrics.clip_distance.ClipDistance.uses", lambda self: {})
    assert metric(resolve(spec()), "clip").distance == "cosine"
    found = metric(resolve(spec(metric_params={"clip": {"distance": "l2"}})), "clip")
    assert (found.distance, found.embedder_options) == ("l2", {"a": 1})


@pytest.mark.parametrize(
    ("cell", "given", "message"),
    [
        (DIGITS, {"clp": {}}, "unknown metric 'clp'"),
        (POINTS, {"clp": {}}, "unknown metric 'clp'"),
        (DIGITS, {"clip": {"distance": "l3"}}, "option 'distance' of clip = 'l3'"),
        (POINTS, {"clip": {"distance": "l3"}}, "option 'distance' of clip = 'l3'"),
        (DIGITS, {"clip": {"embedder_options": {"modle": 1}}}, "clip has no option 'modle'"),
    ],
)
def test_wrong_metric_options_stop_before_training(cell, given, message):
    """Unknown metrics and options are refused, whether or not the metric applies."""
    with pytest.raises(UsageError, match=message):
        resolve(RunSpec.model_validate(cell | {"metric_params": given}))


def test_the_command_repeats_every_option(bench, monkeypatch):
    """What provenance states leads back to the very request, odd values included."""
    wanted = spec(
        metric_params={"clip": {"distance": "cosine", "embedder_options": {"model": "a: b"}}},
        judge_params={"name": "classifier", "steps": 9, "rejection_rate": 0.02},
        task_params={"generation": {"nfe": 30}},
        params={},
        steps=40,
        passes=30,
        samples=20,
        train_seed=1,
        unlearn_seed=2,
        sample_seed=3,
        conditional=True,
        compile=True,
    )
    heard = []
    monkeypatch.setattr(
        "msgm_bench.cli.run_and_show.print_plan",
        lambda specs, **options: heard.extend(specs) or 0,
    )
    assert bench(*shlex.split(rerun_command(wanted))[1:], "--dry-run")[0] == 0
    assert heard == [wanted]
    assert parse_spec(yaml.safe_load(yaml.safe_dump(wanted.model_dump(mode="json")))) == wanted


def test_the_folder_is_named_by_what_was_asked_for():
    """Options change the name; saying a default aloud does not."""
    names = {
        spec(**change).folder
        for change in ({}, {"judge_params": {"steps": 9}}, {"metric_params": {"clip": {"a": 1}}})
    }
    assert len(names) == 3
    assert spec(seed=0, judge_params={}).folder == spec().folder


# What is left out -------------------------------------------------------------------------


def test_metrics_that_say_nothing_are_left_out_with_the_reason():
    """Images have no frontier, points no Frechet distance; the plan knows before training."""
    images, points = (resolve(RunSpec.model_validate(request)) for request in (DIGITS, POINTS))
    assert set(reasons(images.evaluation.skipped, "metrics")) == {"frontier_gap"}
    assert set(reasons(points.evaluation.skipped, "metrics")) == {"fid-judge", "fid-inception"}
    assert "images" in reasons(points.evaluation.skipped)["fid-judge"]
    for plan in (images, points):
        assert not set(reasons(plan.evaluation.skipped)) & {m.name for m in plan.evaluation.metrics}


def test_a_preview_says_what_will_be_missing(monkeypatch, tmp_path, cache):
    """Tasks and metrics that do not apply, and metrics whose weights are not here."""
    monkeypatch.setenv("MSGM_BENCH_DATA", str(tmp_path))
    points, images = (dry_run(RunSpec.model_validate(request)) for request in (POINTS, DIGITS))
    assert {"inpainting", "reconstruction", "fid-judge"} <= set(reasons(points.skipped))
    assert "fid-inception" in reasons(images.null_metrics)
    assert "fid-judge" not in reasons(images.null_metrics), "the judge has features"


def test_reasons_are_shown_and_kept(cache, new_registry, bench, tmp_path, monkeypatch):
    """--dry-run, the result's provenance and the report name what is left out, and why."""
    monkeypatch.setenv(
        "MSGM_BENCH_PLUGINS",
        "datasets.gaussians,backbones.*,samplers.*,methods.*,tasks.*,judges.bayes,metrics.nll,"
        "metrics.unlearning_ratio,metrics.fid,embedders.*",
    )
    new_registry.cache_clear()
    code, out, _ = bench(*tiny("--dry-run", method="unseen"))
    assert code == 0
    words = " ".join(out.split())
    assert "skipped: inpainting: inpainting is for images" in words
    assert "skipped: fid-judge: the Frechet distance is for images" in words
    assert bench(*tiny(method="unseen", out=tmp_path / "runs"))[0] == 0
    told = only(tmp_path / "runs")["provenance"]
    skipped = {(skip["kind"], skip["name"]): skip["reason"] for skip in told["skipped"]}
    assert skipped["tasks", "reconstruction"] == "reconstruction is for images"
    assert {name for kind, name in skipped if kind == "metrics"} == {"fid-judge", "fid-inception"}
    (page,) = (tmp_path / "runs").rglob("report.md")
    text = page.read_text("utf-8")
    assert "Skipped tasks:\n\n- " in text
    assert "\n- inpainting: inpainting is for images" in text
    assert "Skipped metrics:\n\n- fid-inception: " in text


# Presets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["vesde", "vpsde", "subvpsde", "ddpm"])
@pytest.mark.parametrize(
    ("preset", "ways"),
    [
        ("quick", ("heun", "heun", 400)),
        ("full", ("heun", "heun", 400)),
        ("paper", ("heun", "heun", 1000)),
    ],
)
def test_reconstruction_decodes_by_the_ode(backbone, preset, ways):
    """Both ways are the probability flow's, whatever samples unconditionally."""
    plan = resolve(spec(backbone=backbone, preset=preset))
    task = plan.evaluation.tasks["reconstruction"].options
    assert (task.variant, task.t) == ("latent", 0.02)
    assert (task.encoder, task.sampler, task.nfe) == ways


@pytest.mark.parametrize("backbone", ["vesde", "vpsde", "subvpsde", "ddpm"])
@pytest.mark.parametrize("conditional", [False, True])
def test_presets_evaluate_at_most_32_times(backbone, conditional):
    """Samples and likelihood; the adaptive solver and the authors' samplers are paper's alone."""
    task = "class_generation" if conditional else "generation"
    for preset in ("quick", "full", "paper"):
        plan = resolve(spec(backbone=backbone, preset=preset, conditional=conditional))
        drawn, likelihood = (plan.evaluation.tasks[n].options for n in (task, "likelihood"))
        is_paper = preset == "paper"
        assert drawn.nfe >= 1000 if is_paper else drawn.nfe <= 32
        assert likelihood.solver == ("dopri5" if is_paper else "adams")
        assert likelihood.steps is None  # of adams: 32 nodes


def test_the_adaptive_solver_needs_no_other_option():
    """The preset's solver leaves nothing behind that dopri5 refuses."""
    chosen = {"likelihood": {"solver": "dopri5"}}
    plan = resolve(spec(task_params=chosen))
    assert plan.evaluation.tasks["likelihood"].options.solver == "dopri5"


def test_a_coarse_grid_needs_no_remedy():
    """On 100 steps partial reconstruction takes the two that it has; 20 by request is refused."""
    coarse = {"backbone": "ddpm", "backbone_params": {"steps": 100}}
    partial = {"variant": "partial", "sampler": "ancestral"}
    chosen = {"task_params": {"reconstruction": partial}}
    assert resolve(spec(**coarse)).evaluation.tasks["reconstruction"].options.nfe == 400
    assert resolve(spec(**coarse, **chosen)).evaluation.tasks["reconstruction"].options.nfe == 2
    with pytest.raises(OptionError, match="at most 2 steps"):
        resolve(spec(**coarse, task_params={"reconstruction": partial | {"nfe": 20}}))
    with pytest.raises(OptionError, match=r"-t reconstruction\.t=T"):
        resolve(spec(backbone="ddpm", backbone_params={"steps": 50}, **chosen))


def test_another_sampler_leaves_the_presets_options_behind():
    """VE's preset tells its corrector which norms to take; Heun's method knows none."""
    chosen = {"generation": {"sampler": "heun"}}
    task = resolve(spec(preset="paper", task_params=chosen)).evaluation.tasks["generation"]
    assert task.options.sampler_options == {}
    kept = {"generation": {"sampler": "pc"}}
    task = resolve(spec(preset="paper", task_params=kept)).evaluation.tasks["generation"]
    assert task.options.sampler_options == {"norm": "item"}


def test_the_papers_fine_tuning_of_ddpm():
    """The backbone's 30,000 steps win over the dataset's; retraining keeps the dataset's."""
    budgets = {
        (backbone, regime): resolve(
            spec(method="obt", backbone=backbone, preset="paper", regime=regime)
        ).training.budget.steps
        for backbone in ("ddpm", "vpsde")
        for regime in ("finetune", "retrain")
    }
    assert budgets["ddpm", "finetune"] == 30_000
    assert budgets["vpsde", "finetune"] != 30_000
    assert budgets["ddpm", "retrain"] == budgets["vpsde", "retrain"]


def test_passes_are_for_those_who_unlearn():
    """``--passes`` beside ``--steps``: baselines and the base model keep their steps."""
    budgets = {
        name: resolve(spec(method=name, steps=7, passes=5, regime="finetune")).training.budget
        for name in ("standard", "unseen", "obt", "finetune")
    }
    told = {name: (budget.steps, budget.passes) for name, budget in budgets.items()}
    assert told == {
        "standard": (7, None),
        "unseen": (7, None),
        "obt": (7, 5),
        "finetune": (7, 5),
    }
    assert (
        resolve(spec(method="obt", passes=5, regime="finetune")).training.base.budget.passes is None
    )


@pytest.mark.parametrize("value", [2024, 1.5, True, ["a"]])
def test_text_of_a_file_that_yaml_reads_as_something_else(value):
    """A spec file's folder: 2024 is refused with what to do; in quotes it is the name."""
    with pytest.raises(OptionError, match=r"(?s)option .folder. of image_folder = .*in quotes"):
        ImageFolder.create({"folder": value})
    assert ImageFolder.create({"folder": str(value)}).options.folder == str(value)


def test_where_no_model_is_runs_are_named(bench, tmp_path):
    """Both commands that take a model from elsewhere say that a run folder is one."""
    data = ("--dataset", "digits", "--forget", "3", "--dry-run")
    base = ("run", "--base", tmp_path, "--backbone", "ddpm", "--method", "ort")
    for words in (("evaluate", tmp_path), base):
        code, _, err = bench(*words, *data)
        assert code == 2
        assert "allowed: a run folder" in err


# Training ---------------------------------------------------------------------------------


def test_training_of_the_method_alone():
    """--training changes the method's budget, the command and the folder, not the base model."""
    chosen = spec(method="ort", regime="finetune", training_params={"learning_rate": 0.0123})
    plan, plain = resolve(chosen), resolve(spec(method="ort", regime="finetune"))
    assert plan.training.budget.learning_rate == 0.0123
    assert plan.training.base.budget == plain.training.base.budget
    assert plan.training.budget.model_copy(update={"learning_rate": 5e-4}) == plain.training.budget
    assert "--training learning_rate=0.0123" in rerun_command(chosen)
    assert chosen.folder != plain.spec.folder


def test_a_grid_states_training_of_one_method_or_of_all_but_baselines():
    """``key`` skips baselines, ``METHOD.key`` names one; texts are read by the setting's type."""
    common = {"dataset": "digits", "forget": "3,7"}
    specs = expand(
        ["standard", "ort", "obt"],
        ["vesde"],
        [0],
        {},
        {"learning_rate": OptionText("1e-3"), "obt.ema_decay": OptionText("0")},
        **common,
    )
    assert [s.training_params for s in specs] == [
        {},
        {"learning_rate": 1e-3},
        {"learning_rate": 1e-3, "ema_decay": 0},
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training_params": {"learning_rat": 1}}, "did you mean 'learning_rate'"),
        ({"training_params": {"steps": 9}}, "it is --steps of the run"),
        ({"training_params": {"learning_rate": -1}}, "'learning_rate' of training = -1"),
        ({"method": "unseen", "training_params": {"learning_rate": 1}}, "are no baseline"),
    ],
)
def test_training_that_cannot_be_stated_is_refused(changes, words):
    """Unknown settings, budgets, values out of range and baselines, before anything is trained."""
    with pytest.raises(UsageError) as caught:
        resolve(spec(**{"method": "ort", **changes}))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("methods", "key", "words"),
    [
        (["standard", "unseen"], "learning_rate", "all methods are baselines"),
        (["ort"], "obt.learning_rate", "not among the methods"),
    ],
)
def test_training_that_nobody_has_is_refused(methods, key, words):
    """A setting that no selected method would take is no typo that passes."""
    with pytest.raises(UsageError, match=words):
        expand(methods, ["vesde"], [0], {}, {key: 1}, dataset="digits", forget="3,7")
