"""result.json: its schema, its provenance, and what stands beside it."""

from __future__ import annotations

import concurrent.futures
import copy
import json
import pickle
import sys

import jsonschema
import pytest
import yaml
from cli_harness import FAST_PLUGINS, only, results, tiny

from msgm_bench import Executor, RunSpec, UsageError, run, run_grid
from msgm_bench.api import Result
from msgm_bench.cache.fingerprint import source_of
from msgm_bench.cli.main import call
from msgm_bench.errors import OptionError
from msgm_bench.experiment.spec import expand, parse_spec
from msgm_bench.registry import registry


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of one run with every metric and picture, and its result."""
    place = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSGM_BENCH_CACHE", str(place / "cache"))
        assert call(tiny("--regime", "finetune", out=place / "runs")) == 0
    (path,) = (place / "runs").rglob("result.json")
    return path.parent, json.loads(path.read_text("utf-8"))


def test_schema(whole):
    """The document is valid under the published JSON Schema, which refuses what is not."""
    schema = Result.model_json_schema(by_alias=True)
    validator = jsonschema.validators.validator_for(schema)(schema)
    validator.check_schema(schema)
    _, document = whole
    assert document["schema"] == "msgm-bench/result@3"
    assert list(validator.iter_errors(document)) == []
    for change in (
        {"status": "fine"},
        {"spec": {}},
        {"extra": 1},
        {"schema": "other@9"},
        {"digest": "0"},
    ):
        assert list(validator.iter_errors(document | change))
    wrong = [document["metrics"][0] | {"value": "many"}]
    assert list(validator.iter_errors(document | {"metrics": wrong}))


def test_files(whole):
    """Everything that the design promises is in the folder, and nothing half-written."""
    folder, _ = whole
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "spec.yaml",
        "result.json",
        "train.jsonl",
        "loss.png",
        "generation.png",
        "score.png",
        "pictures.safetensors",
        "report.md",
        "model/model.json",
        "model/weights.safetensors",
        "judge/judge.json",
        "judge/judge.safetensors",
    }


def test_rows(whole):
    """One headline row for each (task, metric, split, protocol), companions by their names."""
    _, document = whole
    rows = document["metrics"]
    keys = [(row["task"], row["metric"], row["split"], row["protocol"]) for row in rows]
    assert len(set(keys)) == len(keys)
    named = {(row["metric"], row["split"]) for row in rows}
    assert {("ur", "samples"), ("nll", "retain"), ("nll", "forget")} <= named
    companions = {"ur_argmax", "ur_floor", "ur_corrected", "unrecognisable"}
    assert companions | {"nll_median", "nll_failed"} <= {metric for metric, _ in named}
    assert {row["protocol"] for row in rows} == set(document["protocols"])
    directions = {(row["metric"], row["split"]): row["direction"] for row in rows}
    assert directions["nll", "retain"] == "down"
    assert directions["nll", "forget"] == "up"
    for row in rows:
        assert row["value"] is not None or row["reason"]
        assert row["n"] > 0
        if row["low"] is not None and row["value"] is not None:
            assert row["low"] <= row["value"] <= row["high"]


def test_one_item_a_split_leaves_values_without_intervals(tmp_path, cache):
    """``--samples 1``: every row of every metric is there, null ends with the reason."""
    few = {"steps": 2, "samples": 1, "dataset_params": {"train_size": 500, "test_size": 500}}
    spec = RunSpec(dataset="gaussians", forget="middle", backbone="vesde", method="standard", **few)
    result = run(spec, out=tmp_path / "runs")
    assert result.status == "ok"
    rows = {(row.metric, row.split): row for row in result.metrics}
    assert {("frontier_gap", "retain"), ("nll", "forget"), ("ur", "samples")} <= set(rows)
    for row in rows.values():
        assert row.value is not None or row.reason
        assert row.low is not None or row.high is not None or "too small" in row.reason


def test_provenance(whole):
    """Who, what, where, how long: enough to repeat or to doubt the values."""
    _, document = whole
    told = document["provenance"]
    assert told["command"].startswith("msgm-bench run --method obt --dataset gaussians")
    assert {"msgm-bench", "python", "torch", "numpy"} <= set(told["versions"])
    assert told["plugins"]["methods/obt"].startswith("msgm-bench ")
    assert set(told["plugins"]) == {
        "datasets/gaussians",
        "backbones/vesde",
        "methods/obt",
        "judges/bayes",
    }
    assert {"core", "methods/obt", "methods/standard", "backbones/vesde"} <= set(told["code"])
    assert {"tasks/likelihood", "metrics/ur", "samplers/dpmpp_2m_sde"} <= set(told["code"])
    assert all(len(digest) == 64 for digest in told["code"].values())
    assert len(told["dataset_fingerprint"]) == 64
    assert len(told["stages"]["base"]) == 64, "the hash of the base model"
    assert told["seeds"] == {"train": 0, "unlearn": 0, "sample": 0}
    assert told["hardware"]["device"] == "cpu"
    assert told["hardware"]["threads"] == 1
    assert told["hardware"]["precision"] == "fp32"
    assert told["hardware"]["peak_memory_mib"] > 0
    assert told["wall_seconds"] > 0
    assert told["passes"] == {"base": 20.0, "train obt": 25.0}, "L_f at every fourth of 20 steps"
    assert told["judge"]["accuracy"] > 0.5
    assert document["spec"]["params"]["alpha"] > 0, "defaults are resolved"
    assert document["spec"]["regime"] == "finetune"
    assert document["spec"]["settings"]["training"]["steps"] == 20


def test_the_digest_follows_the_content(whole):
    """It is over status, spec, rows and protocols; each change of a number is noticed."""
    _, document = whole
    assert Result.model_validate(document).digest == document["digest"]
    for change in (
        lambda d: d["metrics"][0].update(n=d["metrics"][0]["n"] + 1),
        lambda d: d["spec"].update(seed=7),
        lambda d: next(iter(d["protocols"].values()))["settings"].update(more=1),
        lambda d: d.update(reason="because"),
        lambda d: d.update(digest="0" * 64),
    ):
        edited = copy.deepcopy(document)
        change(edited)
        with pytest.raises(ValueError, match="it was edited"):
            Result.model_validate_json(json.dumps(edited))
    edited = copy.deepcopy(document)
    edited["provenance"]["seconds"] = {}
    assert Result.model_validate(edited).digest == document["digest"]


def test_rows_hold_only_what_the_spec_determines(whole):
    """No time, no memory and no path outside provenance."""
    folder, document = whole
    rest = json.dumps({key: document[key] for key in ("metrics", "protocols", "spec")})
    assert "seconds" not in rest
    assert str(folder.parent) not in json.dumps(document)


def test_spec_yaml_is_the_request(whole):
    """The file beside the result names the request, and leaves out what was not asked for."""
    folder, _ = whole
    values = yaml.safe_load((folder / "spec.yaml").read_text("utf-8"))
    assert values["forget"] == ["middle"]
    assert "train_seed" not in values
    assert parse_spec(values).folder == folder.name


def test_report(whole):
    """The page names every metric and the command that made it."""
    folder, document = whole
    page = (folder / "report.md").read_text("utf-8")
    assert all(f"| {row['metric']} | {row['split']} |" in page for row in document["metrics"])
    assert document["provenance"]["command"] in page


# From Python ------------------------------------------------------------------------------


OPTIONS = {
    "dataset": "gaussians",
    "forget": "middle",
    "backbone": "vesde",
    "steps": 20,
    "samples": 32,
    "dataset_params": {"train_size": 500, "test_size": 500},
    "backbone_params": {"width": 16, "depth": 1},
    "task_params": {"likelihood": {"rtol": 1e-2, "atol": 1e-2}},
}


def test_python_and_command_line_agree(fast, cache, bench, tmp_path):
    """``run(RunSpec(...))`` is the same run as the command: the same folder, the same result."""
    result = run(RunSpec(method="obt", **OPTIONS), tmp_path / "runs")
    (path,) = (tmp_path / "runs").rglob("result.json")
    content = path.read_bytes()
    assert bench(*tiny(out=tmp_path / "runs"))[0] == 0
    assert len(list((tmp_path / "runs").iterdir())) == 1
    assert path.read_bytes() == content
    assert result == Result.model_validate_json(content)
    assert result.value("ur", "samples") is not None


def test_a_grid_is_checked_before_it_runs(fast, cache, tmp_path):
    """One wrong run stops the grid before anything is trained or written."""
    specs = [RunSpec(method=name, **OPTIONS) for name in ("obt", "obtt")]
    with pytest.raises(UsageError, match="did you mean"):
        run_grid(specs, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    assert not list(cache.glob("done/*"))


class Pickling(Executor):
    """An executor whose jobs go through pickle, as to a process."""

    name = "pickling"

    def pool(self, resources):
        """Of no workers: a job is done when it is submitted."""
        return Here()


class Here(concurrent.futures.Executor):
    """Does jobs in this process."""

    def submit(self, function, job):
        """The future of a job that is done."""
        function, job = pickle.loads(pickle.dumps((function, job)))
        future = concurrent.futures.Future()
        future.set_result(pickle.loads(pickle.dumps(function(job))))
        return future


def test_an_executor_gets_picklable_cells(fast, cache, tmp_path):
    """Any executor ends with the results that the plain loop ends with."""
    specs = [RunSpec(method=name, **OPTIONS) for name in ("obt", "unseen")]
    loop = run_grid(specs, tmp_path / "loop")
    other = run_grid(specs, tmp_path / "executor", Pickling())
    assert [r.spec.method for r in other] == ["obt", "unseen"]
    assert [r.metrics for r in other] == [r.metrics for r in loop]


def test_grid_of_names():
    """Methods, backbones and seeds multiply; each method gets the options that it has."""
    specs = expand(
        ["standard", "obt", "ort"],
        ["vesde", "vpsde"],
        [0, 1],
        {"alpha": 0.7, "ort.forget_interval": 2},
        dataset="gaussians",
        forget="middle",
    )
    assert len(specs) == len({spec.folder for spec in specs}) == 12
    params = {spec.method: spec.params for spec in specs}
    assert params == {
        "standard": {},
        "obt": {"alpha": 0.7},
        "ort": {"alpha": 0.7, "forget_interval": 2},
    }


def test_names_given_twice_are_one_cell():
    """Repeating a method or a seed does not run anything twice."""
    common = {"dataset": "gaussians", "forget": "middle"}
    specs = expand(["obt", "obt"], ["vesde", "vesde"], [3, 3], {}, **common)
    assert len(specs) == 1


@pytest.mark.parametrize(
    ("change", "same"),
    [({}, True), ({"seed": 1}, False), ({"params": {"alpha": 0.5}}, False), ({"steps": 3}, False)],
)
def test_folder_names(change, same):
    """The folder's name is readable, and follows from the whole request."""
    first = RunSpec(method="obt", **OPTIONS)
    second = RunSpec(method="obt", **OPTIONS | change)
    assert first.folder.startswith("gaussians-middle-vesde-obt-s0-")
    assert (first.folder == second.folder) == same


@pytest.mark.parametrize("forget", ["3,7", ["3", "7"], [3, 7], (3, 7)])
def test_forget_is_a_list(forget):
    """Text with commas, lists of names and lists of numbers mean the same."""
    values = OPTIONS | {"method": "obt", "forget": forget}
    assert parse_spec(values).forget == ("3", "7")


def test_forget_is_a_number():
    """``forget: 3`` in YAML is a number, and a class all the same."""
    assert parse_spec(OPTIONS | {"method": "obt", "forget": 3}).forget == ("3",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datset": "x"}, "did you mean 'dataset'"),
        ({"preset": "quik"}, "did you mean 'quick'"),
        ({"seed": -1}, "'seed' of the run = -1"),
        ({"steps": 0}, "'steps' of the run = 0"),
        ({"params": 3}, "'params' of the run = 3"),
        ({"regime": "retrian"}, "retrian"),
        ({"forget": {"a": 1}}, "forget"),
    ],
)
def test_wrong_specs(change, message):
    """Every field of a request is checked, and named when it is wrong."""
    with pytest.raises(OptionError, match=message):
        parse_spec(OPTIONS | {"method": "obt"} | change)


# What code a key depends on ---------------------------------------------------------------


def test_comments_change_no_key(tmp_path, monkeypatch):
    """Docstrings, comments and layout are no code; everything else is."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def key(text):
        (tmp_path / "msgm_source_probe.py").write_text(text)
        source_of.cache_clear()
        return source_of("msgm_source_probe")

    plain = key("def f(x):\n    return x + 1\n")
    assert key('"""Doc."""\n\ndef f(x):  # comment\n    """Doc."""\n\n    return x+1\n') == plain
    assert key("def f(x):\n    return x + 2\n") != plain
    source_of.cache_clear()


def test_versions_of_a_method_do_not_mix(third_party, fast, cache, bench, tmp_path):
    """When the code of a method changes, its models are trained again."""
    text = (
        "from msgm_bench import LossMethod, hookimpl, dsm_loss\n"
        "class Mine(LossMethod):\n"
        '    """Mine."""\n'
        "    name = 'mine'\n"
        "    needs = frozenset({'retain'})\n"
        "    def loss(self, model, batches, step):\n"
        "        return FACTOR * dsm_loss(model, batches.retain)\n"
        "FACTOR = 1.0\n"
        "@hookimpl\n"
        "def register_methods():\n"
        "    return [Mine]\n"
    )
    place = third_party("third-party-mine", text, "third_party.mine")
    assert bench(*tiny(method="mine", out=tmp_path / "runs"))[0] == 0
    before = results(tmp_path / "runs")["mine", 0]
    assert registry().broken == []
    del sys.modules["third_party_mine"]
    (place / "third_party_mine.py").write_text(text.replace("1.0", "-1.0"))
    source_of.cache_clear()
    registry.cache_clear()
    assert bench(*tiny(method="mine", out=tmp_path / "runs"))[0] == 0
    after = results(tmp_path / "runs")["mine", 0]
    assert after["metrics"] != before["metrics"]
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_third_party_presets(probe, cache, monkeypatch, new_registry, bench, tmp_path):
    """A third-party dataset whose preset names a judge that is not there says so."""
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", FAST_PLUGINS)
    new_registry.cache_clear()
    named = ("--dataset", "pair", "--forget", "far", "--backbone", "vesde", "--method", "steady")
    code, _, err = bench("run", *named, "--out", tmp_path / "runs")
    assert code == 2
    assert "unknown judge 'nearest'" in err
    assert not (tmp_path / "runs").exists()


def test_only_one_cell(whole):
    """``only`` and the folder agree, so that the tests above look at the right file."""
    folder, document = whole
    assert only(folder) == document
