"""Which judge a run has, what is refused before training, and the gate."""

from __future__ import annotations

import json

import pytest
import torch
from cli_harness import only, tiny

from msgm_bench import Data, Examples, MetricProtocol, OptionError, Row, RunSpec, Settings
from msgm_bench.errors import IncompatibleError, StorageError, UnknownNameError, UsageError
from msgm_bench.evaluation.scoring import gate_stamp, stamped_rows
from msgm_bench.experiment.judge import judge_of, judge_record
from msgm_bench.experiment.plan import resolve
from msgm_bench.registry import registry

DIGITS = {"dataset": "digits", "forget": "3,7", "backbone": "vesde", "method": "unseen"}
IMAGES = torch.zeros(8, 1, 8, 8, dtype=torch.uint8)
BOTH = ["classifier", "attributes"]


def data(y):
    """Eight black images with labels ``y``."""
    return Data(Examples(IMAGES, y), Examples(IMAGES, y), ("a", "b"), 2)


CLASSES = data(torch.arange(8) % 2)
TRAITS = data(torch.ones(8, 2, dtype=torch.bool))


def chosen(preset, given=None, labels=CLASSES, **fields):
    """The judge for such labels."""
    spec = RunSpec.model_validate(DIGITS | {"judge_params": given or {}} | fields)
    return judge_of(Settings(judge=preset), spec, labels)


@pytest.mark.parametrize(("labels", "name"), [(CLASSES, "classifier"), (TRAITS, "attributes")])
def test_the_first_judge_that_suits_is_taken(labels, name):
    """Of several names, the one for these labels, with the options that all share."""
    judge = chosen({"name": BOTH, "width": 8}, labels=labels)
    assert (judge.name, judge.options.width) == (name, 8)


def test_where_no_judge_suits_the_first_says_why():
    """The error is that of the preset's first choice."""
    with pytest.raises(IncompatibleError, match="'bayes' needs"):
        chosen({"name": ["bayes", "classifier"]}, labels=TRAITS)


def test_options_of_the_user_are_above_those_of_the_preset():
    """The judge's own steps are above the preset's; ``--steps`` are those of the models."""
    preset = {"name": "classifier", "steps": 5, "width": 8}
    assert chosen(preset).options.steps == 5
    assert chosen(preset, {"steps": 7}).options.steps == 7
    assert chosen(preset, steps=6).options.steps == 5
    with pytest.raises(OptionError, match="no option 'witdh'"):
        chosen(preset, {"witdh": 7})
    with pytest.raises(OptionError, match="no option 'depth'"):
        chosen(preset | {"depth": 7})


def test_another_judge_takes_what_it_has_of_the_preset():
    """Options of the preset's judge that the user's has not are left out, the gate is kept."""
    preset = {"name": "classifier", "steps": 5, "gate": 0.7}
    judge = chosen(preset, {"name": "attributes"}, TRAITS)
    assert (judge.name, judge.options.steps, judge.options.gate) == ("attributes", 5, 0.7)
    with pytest.raises(IncompatibleError):
        chosen({"name": "classifier", "width": 8}, {"name": "bayes"})


@pytest.mark.parametrize(
    ("preset", "error", "words"),
    [
        ({}, UsageError, "names a judge"),
        ({"name": "nobody"}, UnknownNameError, "unknown judge 'nobody'"),
        ({"name": 3}, OptionError, "the judge's name is 3"),
        ({"name": ["classifier", None]}, OptionError, "name"),
    ],
)
def test_names_that_are_none_are_refused(preset, error, words):
    """No name, an unknown one, and what is no name."""
    with pytest.raises(error, match=words):
        chosen(preset)


def test_missing_weights_stop_before_training(tmp_path):
    """The error names the judge, the file and what would do."""
    with pytest.raises(StorageError, match=r"'classifier'.*gone\.pt2.*judge\.safetensors"):
        chosen({"name": "classifier"}, {"path": str(tmp_path / "gone.pt2")})


def test_a_plan_has_a_judge_that_can_judge(bench, tmp_path):
    """The command ends at once: a judge for attributes on classes, CLIP without its weights."""
    arguments = ("--dataset", "digits", "--forget", "3", "--backbone", "vesde", "--method", "obt")
    out = ("--out", tmp_path / "runs")
    code, _, error = bench("run", *arguments, *out, "-j", "name=attributes")
    assert code == 2
    assert "-j name=classifier" in error
    for option, expected, said in (
        (f"path={tmp_path / 'vit'}", 2, "nothing at this path"),
        ("repo=somebody/gone", 1, "hf download"),
    ):
        code, _, error = bench("run", *arguments, *out, "-j", "name=clip", "-j", option)
        assert (code, said in error) == (expected, True)
    assert not (tmp_path / "runs").exists()


def test_what_is_recorded_of_a_judge(tmp_path):
    """Name, options and gate; neither a path nor, where none were given, weights."""
    plan = resolve(RunSpec.model_validate(DIGITS | {"judge_params": {"gate": 0.5}}))
    told = judge_record(plan.evaluation.judge)
    assert (told["name"], told["gate"]) == ("classifier", 0.5)
    assert not {"path", "weights"} & set(told)
    assert told["steps"] == 600


# The gate ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ({"accuracy": 0.9}, None),
        ({"accuracy": 0.8999}, "is 89.99%, asked 90.00%"),
        ({"accuracy": 0.5}, "accuracy on held-out items is 50.00%, asked 90.00%"),
        ({}, "could not be measured"),
    ],
)
def test_a_judge_at_its_gate_passes(report, words):
    """What is asked is enough; less, or nothing, is doubted in words."""
    judge = registry().create("judges", "classifier")
    judge.report = report
    stamp = gate_stamp(judge, (0,))
    assert stamp is None if words is None else words in stamp


def test_only_values_that_rest_on_the_judge_are_stamped():
    """The protocol says whether they do; a dash has nothing to doubt."""
    common = {"task": "t", "metric": "m", "split": "s", "protocol": "p@1", "unit": "%", "n": 1}
    rows = [Row(value=1.0, **common), Row(value=None, reason="none", **common)]
    with_judge = MetricProtocol(name="p", settings={"judge": {"name": "j"}})
    without = MetricProtocol(name="p", settings={"embedder": "judge"})
    found = stamped_rows(rows, with_judge, "doubt")
    assert [row.stamp for row in found] == ["doubt", None]
    assert found[0].value == 1.0
    assert stamped_rows(rows, without, "doubt") == rows
    assert stamped_rows(rows, with_judge, None) == rows


def test_a_gate_that_is_missed_stamps_and_hides_nothing(fast, cache, bench, tmp_path):
    """Values stand and are marked everywhere; another gate trains and fits nothing again."""
    code, out, err = bench(*tiny("-j", "gate=0.999", out=tmp_path / "strict"))
    assert code == 0, err
    strict = only(tmp_path / "strict")
    stamps = {row["metric"]: row["stamp"] for row in strict["metrics"]}
    assert "misses its gate" in stamps["ur"]
    assert stamps["unrecognisable"] == stamps["ur"]
    assert stamps["nll"] is None
    assert strict["provenance"]["judge"]["accuracy"] < 0.999
    assert strict["spec"]["settings"]["judge"]["gate"] == 0.999
    assert "-j gate=0.999" in strict["provenance"]["command"]
    assert out.count("misses its gate") == 1
    assert "⚠" in out
    (report,) = (tmp_path / "strict").rglob("report.md")
    text = report.read_text("utf-8")
    assert text.count("misses its gate") == 1
    assert " ⚠ |" in next(line for line in text.splitlines() if "| ur |" in line)
    code, out, err = bench(*tiny(out=tmp_path / "loose"))
    assert code == 0, err
    loose = only(tmp_path / "loose")
    assert {row["stamp"] for row in loose["metrics"]} == {None}
    assert "⚠" not in out
    values = [[row["value"] for row in found["metrics"]] for found in (strict, loose)]
    assert values[0] == values[1]
    assert strict["protocols"] == loose["protocols"]
    keys = [found["provenance"]["stages"] for found in (strict, loose)]
    assert {name for name in keys[0] if keys[0][name] != keys[1][name]} == {"measure"}


def test_a_judge_of_another_run_is_taken_by_its_path(cache, bench, tmp_path, fast):
    """Its folder in place of training: the same verdicts, its checksum in protocol and key."""
    cell = ("--dataset", "digits", "--forget", "3", "--backbone", "vesde", "--method", "unseen")
    small = ("--steps", 2, "--samples", 8, "-b", "width=16", "-b", "depth=1", "--out")
    loose = ("-t", "likelihood.rtol=1e-2", "-t", "likelihood.atol=1e-2")
    code, _, err = bench("run", *cell, *loose, *small, tmp_path / "first", "-j", "steps=40")
    assert code == 0, err
    (folder,) = (tmp_path / "first").glob("*/judge")
    given = ("-j", f"path={folder}")
    code, _, err = bench("run", *cell, *loose, *small, tmp_path / "second", *given)
    assert code == 0, err
    first, second = only(tmp_path / "first"), only(tmp_path / "second")
    assert first["provenance"]["judge"] == second["provenance"]["judge"]
    values = [
        [r["value"] for r in found["metrics"] if r["metric"].startswith("u")]
        for found in (first, second)
    ]
    assert values[0] == values[1]
    settings = second["protocols"]["unlearning_ratio/judge@1"]["settings"]["judge"]
    assert len(settings["weights"]) == 64
    rest = {key: second[key] for key in ("metrics", "protocols", "spec")}
    assert str(tmp_path) not in json.dumps(rest)
    code, _, error = bench("run", *cell, *small, tmp_path / "third", *given, "-j", "width=8")
    assert code == 2
    assert "of another network" in error
