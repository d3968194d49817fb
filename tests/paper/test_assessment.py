"""From results to assessments: every status, and every obstacle to one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgm_bench import Interval
from msgm_paper.assessment import Status, assess, compare
from msgm_paper.results import measurement
from msgm_paper.tables import published_values

UR = {"dataset": "mnist"}
NUMBERS = st.floats(-100, 100)


def judged(entry, *results):
    """The assessment of a published value."""
    return assess(entry, results, published_values())


# The rule ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "half", "status"),
    [
        (10.0, 1.9, Status.REPRODUCED),
        (11.5, 0.4, Status.REPRODUCED),
        (10.0, 2.1, Status.INCONCLUSIVE),
        (11.5, 0.6, Status.INCONCLUSIVE),
        (12.5, 0.6, Status.INCONCLUSIVE),
        (12.5, 0.4, Status.DIFFERS),
        (7.0, 0.9, Status.DIFFERS),
        (10.0, math.inf, Status.INCONCLUSIVE),
        (99.0, math.inf, Status.INCONCLUSIVE),
    ],
)
def test_whole_interval_within_the_margin(value, half, status):
    """10 ± 2: inside, outside, and all that straddles an end or is not bounded."""
    assert compare(Interval(value, value - half, value + half), 10.0, 2.0) is status


@given(NUMBERS, st.floats(0, 50), NUMBERS, st.floats(0.01, 10), st.floats(0, 50))
def test_a_wider_interval_reproduces_and_refutes_nothing_new(value, half, entry, margin, more):
    """Widening an interval leaves the outcome, or makes it inconclusive."""
    narrow = compare(Interval(value, value - half, value + half), entry, margin)
    wider = half + more
    wide = compare(Interval(value, value - wider, value + wider), entry, margin)
    assert wide in (narrow, Status.INCONCLUSIVE)


# Every status -----------------------------------------------------------------------------


def test_not_yet_run(entry):
    """Nothing there: the value says which run is missing."""
    ort = entry(2, "ort", "nll", "forget", **UR)
    assessment = judged(ort)
    assert (assessment.status, assessment.measured, assessment.reasons) == (
        Status.NOT_RUN,
        None,
        (),
    )
    assert assessment.runnable
    assert assessment.setting.command() == (
        "msgm-bench run --dataset mnist --forget 3,7 --backbone vesde --method ort "
        "--regime retrain --preset paper --seed 0"
    )


def test_reproduced_differs_inconclusive(entry, make):
    """The three verdicts on a run of the preset ``paper``, with value, interval and n."""
    unseen = entry(2, "unseen", "ur", **UR)
    assessment = judged(unseen, make(unseen, 4.5, 0.4))
    assert assessment.status is Status.REPRODUCED
    assert assessment.measured.interval == Interval(4.5, 4.1, 4.9)
    assert assessment.measured.n == 10_000
    assert not assessment.runnable
    assert judged(unseen, make(unseen, 9.0, 0.6)).status is Status.DIFFERS
    assert judged(unseen, make(unseen, 4.1, 2.5)).status is Status.INCONCLUSIVE
    assert judged(unseen, make(unseen, 4.1, None)).status is Status.INCONCLUSIVE


@pytest.mark.parametrize("preset", ["quick", "full"])
def test_another_budget(entry, make, preset):
    """A quick result is shown and never reproduces, however near it is."""
    obt = entry(2, "obt", "ur", **UR)
    assessment = judged(obt, make(obt, obt.value, 0.01, preset=preset))
    assert assessment.status is Status.NOT_COMPARABLE
    assert assessment.measured.interval.value == obt.value
    assert f"another budget: measured under the preset {preset}" in assessment.reasons
    assert assessment.runnable


@pytest.mark.parametrize(
    "place",
    [
        (3, "ort", "fid", "retain", "cifar10"),
        (3, "ort", "psnr", "retain", "celeba"),
        (3, "ort", "acc", "forget", "stl10"),
        (3, "real-data", "acc", "forget", "stl10"),
        (4, "obt", "fid", "retain", "cifar10"),
        (5, "obt?", "nll", "forget", "cifar10"),
        (1, "msgm", "nll", "forget", "gaussians"),
    ],
)
def test_flaws_of_the_paper(entry, make, place):
    """A published value that is no target is never reproduced; what was measured is shown."""
    *where, dataset = place
    flawed = entry(*where, dataset=dataset)
    assessment = judged(flawed, make(flawed, flawed.value, 0.001))
    assert assessment.status is Status.NOT_COMPARABLE
    assert assessment.measured.interval.value == flawed.value
    assert assessment.reasons
    assert not assessment.runnable
    nothing = judged(flawed)
    assert (nothing.status, nothing.measured) == (Status.NOT_COMPARABLE, None)
    assert nothing.reasons == assessment.reasons


def test_every_value_can_be_reproduced(make):
    """A perfect result of the right kind reproduces every value that is a target."""
    for value in published_values():
        assessment = judged(value, make(value, value.value, 0.001))
        flawed = judged(value).status is Status.NOT_COMPARABLE
        expected = Status.NOT_COMPARABLE if flawed else Status.REPRODUCED
        assert assessment.status is expected, (value, assessment)
        assert assessment.measured.interval.value == value.value


# What stands in the way -------------------------------------------------------------------


def test_options_of_the_method(entry, make):
    """Another alpha, product or sign is another method; the ablation has alphas of its own."""
    ort = entry(2, "ort", "ur", **UR)
    stated = {"alpha": 0.99, "forget_interval": 4, "product": "inner"}
    for name, value in (("alpha", 0.9), ("forget_interval", 1), ("product", "elementwise")):
        found = judged(ort, make(ort, ort.value, 0.1, params=stated | {name: value}))
        assert found.status is Status.NOT_COMPARABLE
        assert found.reasons == (f"{name} = {value}, in the paper {stated[name]}",)
    tenth = entry(7, "ort(alpha=0.9)", "ur")
    assert judged(tenth, make(ort, tenth.value, 0.1)).reasons == ("alpha = 0.99, in the paper 0.9",)
    assessment = judged(tenth, make(tenth, tenth.value, 0.1))
    assert assessment.status is Status.REPRODUCED
    assert "-p alpha=0.9" in assessment.setting.command()


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("--steps 2 --samples 16", "--steps 2 --samples 16"),
        ("-b 'channels=[8]'", "-b channels=[8]"),
        ("-d pad=true", "-d pad=true"),
        ("-t generation.nfe=5", "-t generation.nfe=5"),
        ("--conditional --seed 3", "--conditional"),
        ("--device cuda:0 --precision bf16", "--precision bf16"),
    ],
)
def test_options_beside_the_preset(entry, make, command, options):
    """Whatever changes what the preset says is named."""
    obt = entry(2, "obt", "ur", **UR)
    assessment = judged(obt, make(obt, obt.value, 0.1, command=command))
    assert assessment.status is Status.NOT_COMPARABLE
    assert assessment.reasons == (f"options beside the preset: {options}",)


@pytest.mark.parametrize(
    "command", ["-p alpha=0.99", "-t likelihood.repeats=1", "--device cuda:0 --precision tf32"]
)
def test_options_that_leave_the_preset_alone(entry, make, command):
    """Options of other tasks, of the machine, and those that are compared by themselves."""
    obt = entry(2, "obt", "ur", **UR)
    assessment = judged(obt, make(obt, obt.value, 0.1, command=command))
    assert assessment.status is Status.REPRODUCED


def test_a_result_without_its_command(entry, make):
    """Nothing says that it is the preset's: not comparable."""
    obt = entry(2, "obt", "ur", **UR)
    bare = make(obt, obt.value, 0.1).model_copy(update={"provenance": {}})
    assert "the result has no command" in judged(obt, bare).reasons[0]


def test_the_papers_steps(entry, make):
    """DDPM is fine-tuned for 30,000 steps in the paper, and for no other number."""
    ort = entry(6, "ort", "ur", backbone="ddpm")
    assessment = judged(ort, make(ort, ort.value, 0.1, settings={"training": {"steps": 80_000}}))
    assert assessment.reasons == ("another budget: 80000 training steps, in the paper 30000",)


def test_stl10_is_evaluated_on_training_images(entry, make):
    """Held-out images do not compare with the paper's training images; its own split does."""
    ort = entry(2, "ort", "nll", "forget", dataset="stl10")
    assert "-d split=paper" in judged(ort).setting.command()
    assert judged(ort, make(ort, ort.value, 0.01)).status is Status.REPRODUCED
    assessment = judged(ort, make(ort, ort.value, 0.01, dataset_params={}))
    assert assessment.status is Status.NOT_COMPARABLE
    assert "evaluated on training images" in assessment.reasons[0]


def test_celeba_draws_a_quarter(entry, make):
    """Bangs by default; the upper half is another region, for which samples do not care."""
    ssim = entry(3, "ort", "ssim", "retain", dataset="celeba")
    bangs, half = [12, 0, 16, 64], [0, 0, 32, 64]
    assert judged(ssim, make(ssim, ssim.value, 0.001, box=bangs)).status is Status.REPRODUCED
    assessment = judged(ssim, make(ssim, ssim.value, 0.001, box=half))
    assert assessment.status is Status.NOT_COMPARABLE
    assert "another region" in assessment.reasons[0]
    ratio = entry(2, "ort", "ur", dataset="celeba")
    assert judged(ratio, make(ratio, ratio.value, 0.1, box=half)).status is Status.REPRODUCED


def test_no_value(entry, make):
    """A null value is shown as such, with its reason, and is not comparable."""
    ort = entry(2, "ort", "nll", "forget", **UR)
    assessment = judged(ort, make(ort, None), make(ort, 13.2, 0.01, seed=1))
    assert assessment.status is Status.NOT_COMPARABLE
    assert assessment.measured.interval is None
    assert assessment.reasons == ("no value: 3 of 10000 integrations failed",)
    assert not assessment.runnable, "repeating it would fail again"


def test_runs_without_the_value(entry, make):
    """A failed run and one without the row leave the value to be run, and say so."""
    ort = entry(2, "ort", "nll", "forget", **UR)
    other = entry(2, "ort", "ur", **UR)
    failed = make(ort, 1.0).model_copy(
        update={"status": "failed", "reason": "left the\nfinite", "metrics": []}
    )
    assessment = judged(ort, failed, make(other, 1.0))
    assert assessment.status is Status.NOT_RUN
    assert assessment.reasons == (
        "a run failed: left the finite",
        "there is a result without this value",
    )


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "fashion_mnist"},
        {"forget": ["3"]},
        {"forget": ["3", "8"]},
        {"backbone": "vpsde"},
        {"method": "obt"},
        {"regime": "finetune"},
    ],
)
def test_other_runs_do_not_answer(entry, make, change):
    """Dataset, forget set, backbone, method and regime must agree; order and case need not."""
    ort = entry(2, "ort", "ur", **UR)
    assert judged(ort, make(ort, ort.value, 0.1, **change)).measured is None
    assert judged(ort, make(ort, ort.value, 0.1, forget=["7", "3"])).measured is not None


def test_other_rows_do_not_answer(entry, make):
    """A row of another protocol, unit or split is another quantity."""
    ort = entry(2, "ort", "nll", "forget", **UR)
    result = make(ort, ort.value, 0.01)
    (row,) = result.metrics
    for change in ({"unit": "nats"}, {"split": "retain"}, {"task": "generation"}):
        other = result.model_copy(update={"metrics": [row.model_copy(update=change)]})
        assert judged(ort, other).measured is None
    bound = result.model_dump(mode="json", exclude={"schema_", "digest"})
    bound["metrics"][0]["protocol"] = "nll/elbo@1"
    bound["protocols"] = {"nll/elbo@1": {"hash": "0", "settings": {}}}
    assert judged(ort, type(result).model_validate(bound)).measured is None


# Several runs -----------------------------------------------------------------------------


def test_several_seeds(entry, make):
    """The mean over seeds with Student's interval: 4.303 standard errors of three seeds."""
    ort = entry(2, "ort", "nll", "retain", **UR)
    values = (3.85, 3.92, 3.99)
    assessment = judged(ort, *(make(ort, v, 5.0, seed=i) for i, v in enumerate(values)))
    mean = sum(values) / 3
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / 2 / 3)
    assert assessment.measured.interval.value == pytest.approx(mean)
    assert assessment.measured.interval.half_width == pytest.approx(4.30265 * error, rel=1e-5)
    assert assessment.measured.seeds == (0, 1, 2)
    assert assessment.status is Status.INCONCLUSIVE


def test_one_seed_counts_once(entry, make):
    """Another result of the same seed does not narrow the interval."""
    ort = entry(2, "ort", "nll", "retain", **UR)
    twice = [(r, r.metrics[0]) for r in (make(ort, 3.9, 0.5), make(ort, 3.8, 0.5))]
    assert measurement(twice).seeds == (0,)
    assert measurement(twice).interval == Interval(3.9, 3.4, 4.4)


def test_other_options_are_not_averaged(entry, make):
    """Quick and paper runs, or two networks, stay apart; the paper's preset comes first."""
    ort = entry(2, "ort", "nll", "retain", **UR)
    assessment = judged(
        ort,
        make(ort, 9.0, 0.01, preset="quick"),
        make(ort, ort.value, 0.01, seed=1),
        make(ort, 9.0, 0.01, preset="full"),
    )
    assert assessment.status is Status.REPRODUCED
    assert assessment.measured.seeds == (1,)
    small = make(ort, ort.value, 0.01, backbone_params={"width": 8}, command="-b width=8")
    assessment = judged(ort, small, make(ort, 9.0, 0.01))
    assert assessment.status is Status.DIFFERS, "the nearer value is of another network"


def test_the_choice_does_not_look_at_values(entry, make):
    """Of two comparable variants the one with more seeds is chosen; a remark counts the other."""
    ort = entry(2, "ort", "nll", "retain", **UR)
    lucky = make(
        ort, ort.value, 0.01, params={"alpha": 0.99, "forget_interval": 4, "product": "inner"}
    )
    lucky = lucky.model_copy(
        update={"spec": lucky.spec.model_copy(update={"backbone_params": {"width": 8}})}
    )
    others = [make(ort, value, 0.01, seed=i) for i, value in enumerate((9.0, 9.01))]
    assessment = judged(ort, lucky, *others)
    assert assessment.status is Status.DIFFERS
    assert "1 more such runs, with other options, are not shown" in assessment.remarks


def test_real_images_take_any_method(entry, make):
    """The accuracy on real images is the judge's, whatever model was beside it."""
    real = entry(4, "real-data", "acc", "retain")
    assessment = judged(real, make(real, 93.0, 0.5, method="obt", regime="finetune"))
    assert assessment.measured.interval.value == 93.0
    assert assessment.setting.command() is None
