"""Samples along a training: they are there, and nothing else changes."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from cli_harness import only, tiny
from PIL import Image

from msgm_bench.cache.entry import read_record
from msgm_bench.errors import IncompatibleError
from msgm_bench.experiment.evaluation_plan import EvaluationPlan
from msgm_bench.experiment.graph import build_graph
from msgm_bench.experiment.model_card import WEIGHTS
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.recorded_task import recorded_task
from msgm_bench.experiment.recording import recorded_sets
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.experiment.training_stages import LOG
from msgm_bench.runner import dry_run
from msgm_bench.storage.tensors import load_tensors
from msgm_bench.training import trainer


def spec(**fields):
    """A tiny run in the plane."""
    return RunSpec(
        dataset="gaussians",
        forget="middle",
        backbone="vesde",
        method="standard",
        device="cpu",
        steps=8,
        dataset_params={"train_size": 200, "test_size": 200},
        backbone_params={"width": 16, "depth": 1},
        **fields,
    )


def ignore(done, total, values, part=""):
    """Progress that nobody looks at."""


def test_no_number_changes(bench, cache, fast, tmp_path):
    """Weights, rows and passes are those of the same run without samples, to the last bit."""
    budget = ("--passes", "20")
    bench(*tiny(*budget, out="plain"))
    code, _, errors = bench(*tiny(*budget, "--record-samples", "4", out="recorded"))
    assert code == 0, errors
    plain, recorded = only(tmp_path / "plain"), only(tmp_path / "recorded")
    assert plain["digest"] == recorded["digest"]
    assert plain["provenance"]["stages"]["measure"] == recorded["provenance"]["stages"]["measure"]
    assert (
        recorded["provenance"]["passes"]["train obt"] == plain["provenance"]["passes"]["train obt"]
    )
    trained, drawn = (entry_of(cache, name) for name in ("train obt", "record obt"))
    assert (trained / WEIGHTS).read_bytes() == (drawn / WEIGHTS).read_bytes()
    assert (trained / LOG).read_bytes() == (drawn / LOG).read_bytes()


def entry_of(cache, name):
    """The cache entry of a stage."""
    paths = cache.glob("done/*/stage.json")
    (path,) = (path for path in paths if json.loads(path.read_text("utf-8"))["name"] == name)
    return path.parent


def test_the_run_folder_has_a_sheet_a_step(bench, cache, fast, tmp_path):
    """The start, each quarter, the end; what comes after reads the cache alone."""
    code, _, errors = bench(*tiny("--record-samples", "4", method="standard"))
    assert code == 0, errors
    (folder,) = tmp_path.glob("runs/*/recording")
    steps = [int(path.stem.partition("-")[2]) for path in sorted(folder.glob("*.png"))]
    assert steps == [0, 5, 10, 15, 20]
    recorded, provenance = entry_of(cache, "record standard"), only(tmp_path / "runs")["provenance"]
    assert provenance["seconds"]["train standard"] >= read_record(recorded).seconds > 0
    assert "record standard" not in provenance["seconds"] | provenance["passes"]
    before = {path.name for path in (cache / "done").iterdir()}
    bench(*tiny("--record-samples", "4", method="standard"))
    bench(*tiny(method="standard"))
    assert {path.name for path in (cache / "done").iterdir()} == before


def test_first_and_last_set_are_those_of_the_weights(cache, fast, tmp_path):
    """The last set equals the samples that are scored, of the same noise; the first is noise."""
    plan = resolve(spec(record_samples=2))
    graph = build_graph(plan)
    graph.recording.run(tmp_path, {}, ignore)
    sets = list(recorded_sets(tmp_path))
    assert [step for step, _ in sets] == [0, 4, 8]
    artifact = graph.artifacts["generation"]
    scored = artifact.task.draw(
        artifact._context(tmp_path, {"model": tmp_path}), 0, len(sets[0][1]["samples"])
    )
    np.testing.assert_array_equal(sets[-1][1]["samples"], scored["x"])
    assert not np.allclose(sets[0][1]["samples"], sets[-1][1]["samples"])


def test_a_killed_recording_goes_on(cache, fast, tmp_path, monkeypatch):
    """Interrupted in the middle, it ends with the bytes of one that was not."""
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", -1.0)
    recording = build_graph(resolve(spec(record_samples=4))).recording
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    recording.run(whole, {}, ignore)

    def interrupt(done, total, values, part=""):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recording.run(killed, {}, interrupt)
    assert (killed / "checkpoint.pt").exists()
    recording.run(killed, {}, ignore)
    names = {path.name for path in whole.iterdir()}
    assert {path.name for path in killed.iterdir()} == names
    for name in names:
        if name.endswith(".safetensors"):
            ours, theirs = load_tensors(whole / name), load_tensors(killed / name)
            assert {k: x.numpy().tobytes() for k, x in ours.items()} == {
                k: x.numpy().tobytes() for k, x in theirs.items()
            }


def test_a_trained_model_is_not_trained_under_another_key(cache, fast):
    """The stage of the model keeps its key, and what follows too; the recording has its own."""
    plain, recorded = (build_graph(resolve(spec(record_samples=n))) for n in (0, 3))
    assert plain.model.key == recorded.model.key
    assert plain.rows.key == recorded.rows.key
    assert set(recorded.stages) - set(plain.stages) == {"record standard"}
    names = [name for name, _, _ in dry_run(spec(record_samples=3)).stages]
    assert names.index("record standard") + 1 == names.index("train standard")


def test_the_folder_of_a_run_does_not_depend_on_it():
    """One run, one folder: samples along the training are no other request."""
    assert spec(record_samples=3).folder == spec().folder


def test_a_run_without_pictures_is_refused(cache, fast):
    """Before anything is trained, with what to do."""
    tasks = resolve(spec()).evaluation.tasks
    evaluation = EvaluationPlan({"likelihood": tasks["likelihood"]}, (), None, None)
    with pytest.raises(IncompatibleError, match="leave out --record-samples"):
        recorded_task(evaluation, (2,))


def test_sheets_of_one_training_differ(bench, cache, fast, tmp_path):
    """What is drawn moves with the weights."""
    bench(*tiny("--record-samples", "2", method="standard"))
    sheets = [path.read_bytes() for path in sorted(tmp_path.glob("runs/*/recording/*.png"))]
    shapes = {Image.open(io.BytesIO(sheet)).size for sheet in sheets}
    assert len(shapes) == 1
    assert len(set(sheets)) == 3
