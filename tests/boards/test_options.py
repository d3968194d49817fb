"""What a board may state of the runs, and what an equal budget compares."""

from __future__ import annotations

import pytest

from msgm_bench.boards import build, collect, load
from msgm_bench.boards.departures import preset_training
from msgm_bench.errors import OptionError

PASSES = 2000


def left_out(folder):
    """The reasons of the files that do not stand on the board, by name."""
    return {path.name: reason for path, reason in collect(load(folder), folder).left_out.items()}


STATED = {
    "dataset_params": {"size": 8},
    "backbone_params": {"width": 64},
    "method_params": {"alpha": {"a": 0.5}},
    "task_params": {"generation": {"sampler": "em"}},
}
RUN = {
    "dataset_params": {"size": "8"},
    "backbone_params": {"width": 64, "depth": 3},
    "params": {"a": 0.5, "b": 2},
    "settings": {"tasks": {"generation": {"sampler": "em", "nfe": 50}}},
}


def test_stated_options_bind_and_stand_on_the_page(tmp_path, definition, make, write):
    """A result with them stands; a number and the text that spells it are one."""
    definition["run"] |= STATED
    write(tmp_path, [make("alpha", s, **RUN) for s in range(3)], definition)
    assert left_out(tmp_path) == {}
    line = next(line for line in build(tmp_path).text.splitlines() if "**options**" in line)
    for option in ("-d size=8", "-b width=64", "-p alpha.a=0.5", "-t generation.sampler=em"):
        assert f"`{option}`" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset_params": {}}, "its -d size is '(absent)', the board's is 8"),
        ({"backbone_params": {"width": 128}}, "its -b width is 128, the board's is 64"),
        ({"params": {"a": 0.7}}, "its -p a is 0.7, the board's is 0.5"),
        ({"settings": {"tasks": {}}}, "its -t generation.sampler is '(absent)'"),
        ({"settings": {}}, "its -t generation.sampler is '(absent)'"),
    ],
)
def test_other_options_are_refused(tmp_path, definition, make, write, change, message):
    """A result without a stated option, or with another value, does not belong to the board."""
    definition["run"] |= STATED
    write(tmp_path, [make("alpha", 0, **RUN | change)], definition)
    assert message in left_out(tmp_path)["alpha-s0.json"]


@pytest.mark.parametrize("part", ["method_params", "training"])
def test_options_of_methods_that_are_not_listed(tmp_path, definition, write, part):
    """A typo in the name of a method is an error, not an option that binds nobody."""
    definition["run"][part] = {"alhpa": {"a": 1}}
    write(tmp_path, [], definition)
    with pytest.raises(OptionError, match=f"run.{part}: 'alhpa' is not among"):
        load(tmp_path)


# Equal budgets ----------------------------------------------------------------------------


@pytest.fixture
def equal(tmp_path, definition):
    """A board of real methods with equal budgets, and ``run(method, seed, **training)``."""
    definition["run"] = {
        "dataset": "digits",
        "forget": ["3"],
        "backbone": "vesde",
        "preset": "quick",
        "regime": "finetune",
        "passes": PASSES,
    }
    definition["methods"] = ["standard", "unseen", "obt"]
    definition["gate"]["reference"] = "unseen"
    definition["baseline"]["method"] = "standard"
    return tmp_path


@pytest.fixture
def run(make):
    """``run(method, seed, items, **training)``: a result that trained by its own preset."""

    def result(method, seed=0, items=256, **training):
        regime = "finetune" if method == "obt" else "retrain"
        cell = {"dataset": "digits", "forget": ["3"], "backbone": "vesde", "preset": "quick"}
        own = preset_training("digits", "vesde", method, "quick", regime)
        passes = {"passes": PASSES if method == "obt" else None}
        settings = {"training": {**own, **passes, **training}, "pass_items": items}
        settings["steps"] = training.get("steps")
        return make(method, seed, 5.0, 2.0, regime=regime, settings=settings, **cell)

    return result


def test_own_presets_stand(equal, definition, run, write):
    """Results of the presets stand, and the page shows what decides how far a pass carries."""
    write(equal, [run(method) for method in definition["methods"]], definition)
    assert left_out(equal) == {}
    text = "".join(build(equal).files.values())
    assert "**budget** 2,000 passes of 256 items" in text
    assert "| `obt` | 256 | 0.0005 | 100 | cosine |" in text
    assert "| `standard` | 256 | 0.001 | 100 | cosine |" in text


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"learning_rate": 0.01}, "trained with learning_rate 0.01, and the preset 'quick' of obt"),
        (
            {"batch_size": 2048},
            "trained with batch_size 2048, and the preset 'quick' of obt has 256",
        ),
        ({"warmup_steps": 0}, "trained with warmup_steps 0"),
        ({"lr_schedule": "constant"}, "trained with lr_schedule 'constant'"),
        ({"passes": 4000}, "its budget is 4000 passes, the board's is 2000 passes"),
    ],
)
def test_another_policy_must_be_stated(equal, definition, run, write, training, message):
    """An edited copy with its own learning rate or batch is refused, unless the board says so."""
    write(equal, [run("standard"), run("unseen"), run("obt", **training)], definition)
    assert message in left_out(equal)["obt-s0.json"]
    if "passes" not in training:
        definition["run"]["training"] = {"obt": training}
        write(equal, [], definition)
        assert left_out(equal) == {}
        assert "or stated in board.yaml" in build(equal).files["protocols.md"]


def test_steps_decide_nothing_under_passes(equal, definition, run, write):
    """``--steps`` is named for the baselines and the base model, never for a budget of passes."""
    results = [run(method, steps=200) for method in definition["methods"]]
    write(equal, results, definition)
    assert left_out(equal) == {}
    text = build(equal).files["protocols.md"]
    assert "- All methods: nothing differs" in text
    for method in ("standard", "unseen"):
        assert f"- `{method}`: `training.steps=200`\n" in text
    assert "- `obt`: `base.training.steps=200`\n" in text
    assert "2,000 passes for all methods but `standard` and `unseen`, which have" in text


def test_methods_that_are_not_installed_must_be_stated(equal, definition, run, make, write):
    """Nothing here says what the preset of an unknown method is: the board does."""
    definition["methods"].append("alpha")
    like = run("obt").spec.model_dump(exclude={"method", "seed", "seeds"})
    write(equal, [run("standard"), make("alpha", 0, 5.0, 2.0, **like)], definition)
    reason = left_out(equal)["alpha-s0.json"]
    assert "alpha is not installed" in reason
    assert "state it as run.training.alpha in board.yaml" in reason
    policy = {
        "batch_size": 256,
        "learning_rate": 0.0005,
        "warmup_steps": 100,
        "lr_schedule": "cosine",
    }
    definition["run"]["training"] = {"alpha": policy}
    write(equal, [], definition)
    assert left_out(equal) == {}


def test_passes_have_one_size(equal, definition, run, write):
    """A result whose passes have other items, or do not say how many, is left out."""
    for items in (64, None):
        write(equal, [run("standard"), run("unseen"), run("obt", items=items)], definition)
        assert f"pass_items is 256 against {items}" in left_out(equal)["obt-s0.json"]


def test_without_a_stated_budget_nothing_is_compared(equal, definition, run, write):
    """A board of steps shows how methods were run, and takes them as they are."""
    del definition["run"]["passes"]
    write(equal, [run("standard"), run("obt", passes=None, learning_rate=0.01)], definition)
    assert left_out(equal) == {}


def test_tasks_of_a_board_are_in_every_result(tmp_path, definition, make, write):
    """A result without the task does not stand; the page names it as on a command line."""
    definition["run"]["tasks"] = ["relearning"]
    tasks = {"settings": {"tasks": {"relearning": {}}}}
    write(tmp_path, [make("alpha", 0, **tasks), make("beta", 0)], definition)
    assert "run it with --task relearning" in left_out(tmp_path)["beta-s0.json"]
    assert "`--task relearning`" in build(tmp_path).text
