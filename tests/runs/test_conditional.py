"""Class-conditional runs: from the command line to the result, and what stops them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from cli_harness import FAST_PLUGINS, draw_nothing, only, tiny

from msgm_bench import Data, DataStats, Examples, IncompatibleError, RunSpec, run
from msgm_bench.cli.main import call
from msgm_bench.experiment.components import stats_for
from msgm_bench.experiment.graph import build_graph
from msgm_bench.experiment.model_io import check_model, load_model
from msgm_bench.experiment.plan import resolve
from msgm_bench.registry import registry
from msgm_bench.report import run_folder
from msgm_bench.testing import ToyBackbone

CONDITIONAL_PLUGINS = f"{FAST_PLUGINS},tasks.class_generation,metrics.unlearning_accuracy"
EVALUATE = (
    *("--dataset", "gaussians", "--forget", "middle", "--samples", "32"),
    *("-d", "train_size=500", "-d", "test_size=500"),
    *("-t", "likelihood.rtol=1e-2", "-t", "likelihood.atol=1e-2"),
)
SPEC = RunSpec(dataset="gaussians", forget="middle", backbone="vesde", method="unseen")
TOLD = SPEC.model_copy(update={"conditional": True})


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    """The folder of a class-conditional run, and its result."""
    place = tmp_path_factory.mktemp("conditional")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSGM_BENCH_CACHE", str(place / "cache"))
        patch.setenv("MSGM_BENCH_PLUGINS", CONDITIONAL_PLUGINS)
        patch.setattr(run_folder, "_draw_pictures", draw_nothing)
        registry.cache_clear()
        assert call(tiny("--conditional", "--regime", "finetune", out=place / "runs")) == 0
    registry.cache_clear()
    (folder,) = (place / "runs").iterdir()
    return folder, only(place / "runs")


@pytest.fixture
def told(monkeypatch, fast, new_registry):
    """The plugins of a fast conditional run."""
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", CONDITIONAL_PLUGINS)
    new_registry.cache_clear()


def test_a_result_says_that_its_model_is_told_a_class(cell):
    """Spec, folder, command, report and card say so; the rows are those of the track."""
    folder, document = cell
    assert document["spec"]["conditional"] is True
    assert folder.name.startswith("gaussians-middle-vesde-cond-obt-s0-")
    assert "--backbone vesde --conditional --" in document["provenance"]["command"]
    assert "Class-conditional, regime finetune" in (folder / "report.md").read_text("utf-8")
    assert yaml.safe_load((folder / "spec.yaml").read_text("utf-8"))["conditional"] is True
    rows = {row["metric"]: row for row in document["metrics"]}
    assert {"ua", "ua_unrecognisable", "ra", "nll"} <= set(rows)
    assert not {"ur", "unrecognisable"} & set(rows)
    assert (rows["ua"]["n"], rows["ra"]["n"]) == (32, 64)
    assert rows["nll"]["protocol"] == "nll/pf-ode/true-class@2"
    assert json.loads((folder / "model" / "model.json").read_text())["data"]["classes"] == 3
    assert load_model(folder / "model", torch.device("cpu")).conditioning.count == 3


def test_evaluate_knows_the_track_from_the_card(cell, told, cache, bench, tmp_path):
    """The rows of the run again, under a command that needs no --conditional."""
    folder, document = cell
    shutil.copytree(folder / "model", tmp_path / "model")
    code, _, err = bench("evaluate", "model", *EVALUATE, "--out", "scored")
    assert code == 0, err
    scored = only(tmp_path / "scored")
    assert scored["metrics"] == document["metrics"]
    assert scored["spec"]["conditional"] is True
    assert "--conditional" not in scored["provenance"]["command"]


def test_a_model_of_the_other_track_is_refused(cell, tmp_path):
    """From Python, where nothing but the request names the track; nothing is written."""
    folder, _ = cell
    request = SPEC.model_copy(update={"model": str(folder / "model")})
    with pytest.raises(IncompatibleError) as caught:
        run(request, tmp_path / "runs")
    assert "takes one of 3 classes, and the run needs one that takes no class" in caught.value.what
    assert "conditional" in caught.value.hint
    assert not (tmp_path / "runs").exists()


def test_a_model_of_other_classes_is_refused(cell):
    """Three classes are not four."""
    folder, _ = cell
    info = resolve(TOLD).loaded.stats
    check_model(folder / "model", info)
    with pytest.raises(IncompatibleError, match="needs one that takes one of 4 classes"):
        check_model(folder / "model", replace(info, classes=4))


def test_tracks_share_data_and_judge_and_no_model():
    """Another key for base and model; the same for the judge; none of it hides in the seeds."""
    plain, other = (build_graph(resolve(spec)) for spec in (SPEC, TOLD))
    assert plain.model.key != other.model.key
    assert plain.judge.key == other.judge.key
    assert resolve(SPEC).loaded.stats.classes is None
    assert resolve(TOLD).loaded.stats.classes == 3


def test_attributes_are_no_classes():
    """Items with several attributes cannot condition a model on one class each."""
    y = torch.eye(4, dtype=torch.bool)
    items = Examples(torch.zeros(4, 1, 4, 4, dtype=torch.uint8), y)
    data = Data(items, items, tuple("abcd"), levels=16)
    info = DataStats.of(data)
    assert stats_for(SPEC, data, info, ToyBackbone) is info
    with pytest.raises(IncompatibleError, match="labels are attributes") as caught:
        stats_for(TOLD, data, info, ToyBackbone)
    assert "leave out --conditional" in caught.value.hint


def test_a_backbone_that_takes_no_class_is_refused():
    """A network that would ignore the class is not trained as if it did not."""

    class Deaf(ToyBackbone):
        """Takes none."""

        conditional = False

    with pytest.raises(IncompatibleError, match="backbones whose networks take a class"):
        stats_for(TOLD, resolve(SPEC).data, resolve(SPEC).loaded.stats, Deaf)


def test_a_class_that_is_not_there(bench, tmp_path):
    """A class that is not there is an error of the conditional track, too."""
    code, _, err = bench(*tiny("--conditional", "--forget", "midle", out=tmp_path / "runs"))
    assert code == 2
    assert "did you mean 'middle'" in err
    assert not (tmp_path / "runs").exists()
