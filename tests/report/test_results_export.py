"""Results in the formats of other programs, read back by their libraries and schemas."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import huggingface_hub
import jsonschema
import pytest

from msgm_bench.api import Result, Row
from msgm_bench.report.every_eval_ever import record, record_path
from msgm_bench.report.model_index import card_data, eval_results, front_matter

BOARDS = Path(__file__).parents[2] / "leaderboards"
STORED = [
    next(iter(sorted((BOARDS / board / "results").glob("*.json"))))
    for board in ("digits-vesde-3-7", "digits-ddpm-cond-3", "gaussians-vesde-middle")
]


def read(path):
    """A result of a board."""
    return Result.model_validate_json(path.read_text("utf-8"))


def measured(result):
    """Its rows with a value, by what tells them apart."""
    return {row.key: row for row in result.metrics if row.value is not None}


@pytest.fixture(params=STORED, ids=lambda path: path.parent.parent.name)
def result(request):
    """A result of each track's board."""
    return read(request.param)


def test_a_model_index_is_read_back(result):
    """huggingface_hub reads the very results from the card, in their order."""
    card = huggingface_hub.ModelCard(front_matter(card_data("a model", result)) + "\n# Text\n")
    assert card.data.model_name == "a model"
    assert card.data.eval_results == eval_results(result)
    rows = measured(result)
    assert len(card.data.eval_results) == len(rows)
    for read_back in card.data.eval_results:
        key = (read_back.metric_args["task"], read_back.metric_type, read_back.dataset_split)
        row = rows[(*key, read_back.metric_config)]
        assert (read_back.metric_value, read_back.metric_args["n"]) == (row.value, row.n)
        assert read_back.metric_args.get("interval_95") == (
            None if None in (row.low, row.high) else [row.low, row.high]
        )


def test_hostile_names_stay_text_on_a_card(result):
    """A class whose name is YAML or closes the metadata is read back as it is."""
    spec = result.spec.model_copy(update={"forget": ["a\n---\nb: [", "'\"{x}: &y"]})
    hostile = Result(
        status="ok", spec=spec, metrics=result.metrics, protocols=result.protocols, provenance={}
    )
    card = huggingface_hub.ModelCard(front_matter(card_data("m", hostile)) + "\n# Text\n")
    assert card.data.eval_results[0].dataset_config == "a\n---\nb: [, '\"{x}: &y"
    assert card.text.strip() == "# Text"


def schema():
    """The schema of the package every-eval-ever, which needs Python 3.12."""
    package = importlib.util.find_spec("every_eval_ever")
    if package is None:
        pytest.skip("every-eval-ever is not installed")
    place = Path(package.submodule_search_locations[0]) / "schemas" / "eval.schema.json"
    return json.loads(place.read_text("utf-8"))


def test_a_record_is_valid_by_the_schema(result):
    """The package's own schema accepts it, and would not without a required part."""
    validator = jsonschema.Draft7Validator(schema())
    document = json.loads(json.dumps(record("me", "model", result, 1.5), allow_nan=False))
    assert list(validator.iter_errors(document)) == []
    assert document["schema_version"] == schema()["version"]
    del document["evaluation_results"][0]["metric_config"]["lower_is_better"]
    assert list(validator.iter_errors(document))


def leaves(value):
    """Every value of ``additional_details`` and ``details`` at any depth."""
    if isinstance(value, dict):
        for name, part in value.items():
            if name in ("additional_details", "details"):
                yield from part.values()
            else:
                yield from leaves(part)
    elif isinstance(value, list):
        for part in value:
            yield from leaves(part)


def test_a_record_has_every_value(result):
    """Each value with its interval, number, direction and protocol; details are texts."""
    document = record("me", "model", result, 1.5)
    rows = measured(result)
    evaluations = document["evaluation_results"]
    assert len(evaluations) == len(rows)
    for evaluation in evaluations:
        metric, score = evaluation["metric_config"], evaluation["score_details"]
        task, name, split, protocol = evaluation["evaluation_result_id"].split("/", 3)
        row = rows[task, name, split, protocol]
        assert score["score"] == row.value
        assert score["uncertainty"]["num_samples"] == row.n
        interval = score["uncertainty"].get("confidence_interval", {})
        assert (interval.get("lower"), interval.get("upper")) in ((row.low, row.high), (None, None))
        assert metric["lower_is_better"] == (row.direction == "down")
        assert metric["metric_parameters"].keys() == result.protocols[protocol].settings.keys()
        assert float(metric["min_score"]) <= row.value <= float(metric["max_score"])
    assert all(isinstance(text, str) for text in leaves(document))


def test_the_place_of_a_record(result):
    """The same result has one place, of the datastore's form, and another result another one."""
    place = record_path("Me", "model", result)
    assert place == record_path("Me", "model", result)
    assert place.parts[:4] == ("data", "msgm-bench", "Me", "model")
    assert place.stem[14] == "4"
    assert place.stem[19] in "89ab"
    others = [read(path) for path in STORED if read(path).digest != result.digest]
    assert all(record_path("Me", "model", other) != place for other in others)


@pytest.fixture
def run(tmp_path):
    """A run folder with a result."""
    folder = tmp_path / "runs" / "digits-3-obt"
    folder.mkdir(parents=True)
    (folder / "result.json").write_bytes(STORED[0].read_bytes())
    return folder


def test_the_command_writes_a_record(run, bench, tmp_path):
    """In its place in the folder, once; again with --force."""
    command = ("export", run, tmp_path / "out", "--format", "every-eval-ever", "--developer", "me")
    code, out, err = bench(*command)
    assert code == 0, err
    (path,) = (tmp_path / "out").rglob("*.json")
    assert out.strip() == str(path)
    assert json.loads(path.read_text("utf-8"))["model_info"]["id"] == "me/digits-3-obt"
    code, _, err = bench(*command)
    assert (code, "--force replaces it" in err) == (2, True)
    assert bench(*command, "--force")[0] == 0


def test_the_command_writes_a_model_index(run, bench, tmp_path):
    """A file that huggingface_hub loads."""
    path = tmp_path / "README.md"
    assert bench("export", run, path, "--format", "model-index")[0] == 0
    card = huggingface_hub.ModelCard.load(path)
    assert card.data.eval_results == eval_results(read(STORED[0]))
    assert card.data.model_name == "digits-3-obt"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format", "every-eval-ever"), "--developer NAME"),
        (("--format", "every-eval-ever", "--developer", "../me"), "developer '../me'"),
        (("--format", "every-eval-ever", "--developer", "unknown"), "developer 'unknown'"),
        (("--format", "model-index", "--developer", "me"), "--developer with --format model-index"),
        (("--format", "model-index", "--base", "there"), "--base with --format model-index"),
        (("--format", "croissant"), "'croissant' is not one of"),
    ],
)
def test_wrong_requests(run, bench, tmp_path, arguments, message):
    """Exit 2 with the reason, and nothing is written."""
    code, _, err = bench("export", run, tmp_path / "out", *arguments)
    assert code == 2
    assert message in err
    assert not (tmp_path / "out").exists()


def test_a_run_without_values(run, bench, tmp_path):
    """A failed run is not exported; the reason says why."""
    stored = read(STORED[0])
    failed = Result(status="failed", reason="it diverged", spec=stored.spec)
    (run / "result.json").write_text(failed.to_json(), encoding="utf-8")
    code, _, err = bench("export", run, tmp_path / "card.md", "--format", "model-index")
    assert code == 2
    assert "it diverged" in err
    assert not (tmp_path / "card.md").exists()


def test_bounds_contain_their_value():
    """A share has 0 and 100 as bounds, and a percentage beyond them none."""
    stored = read(STORED[0])
    (protocol,) = list(stored.protocols)[:1]
    common = {"task": "t", "metric": "m", "protocol": protocol, "unit": "%", "n": 3}
    rows = [Row(split="a", value=100.0, **common), Row(split="b", value=-3.0, **common)]
    result = Result(status="ok", spec=stored.spec, metrics=rows, protocols=stored.protocols)
    configs = [e["metric_config"] for e in record("me", "m", result, 0.0)["evaluation_results"]]
    bounds = [(config["min_score"], config["max_score"]) for config in configs]
    assert bounds == [(0.0, 100.0), ("-Infinity", "Infinity")]
