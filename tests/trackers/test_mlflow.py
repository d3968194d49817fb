"""Runs in MLflow's own database, read back by its client."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from cli_harness import tiny
from lives import RESULT, SPEC, VALUES, Life, curve, jsonl_curves, jsonl_rows

from msgm_bench.testing import check_tracker
from msgm_builtin.trackers.mlflow import Mlflow, parameters

mlflow = pytest.importorskip("mlflow")
pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's, of its libraries


@pytest.fixture
def uri(tmp_path, monkeypatch):
    """A database of this test."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def live(uri, tmp_path):
    """``live(name)`` begins a process with a run."""
    return lambda name="one": Life(Mlflow.create({"uri": uri}), tmp_path / "runs" / name)


def runs(uri):
    """The runs of the experiment, oldest first."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("msgm-bench")
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


def history(uri, run, name):
    """A metric by step; an error where a step has two values."""
    metrics = mlflow.MlflowClient(uri).get_metric_history(run.info.run_id, name)
    assert max(Counter(metric.step for metric in metrics).values()) == 1
    return {metric.step: metric.value for metric in metrics}


def test_it_conforms(uri):
    """Whole lives of runs."""
    check_tracker(Mlflow, {"uri": uri})


def test_a_run_is_read_back(live, uri):
    """Its metrics, parameters, tags, state and name."""
    live().train(0, 20).end()
    (run,) = runs(uri)
    assert history(uri, run, "train_obt/loss") == curve(0, 20)
    assert {name: run.data.metrics[name] for name in VALUES} == VALUES
    assert (run.info.run_name, run.info.status) == ("one", "FINISHED")
    assert run.data.tags["digest"] == RESULT.digest
    assert run.data.params == parameters(SPEC.model_dump())
    assert run.data.params["method.weight"] == "0.5"
    assert json.loads(run.data.params["forget"]) == ["3", "7"]


def test_a_resumed_run_goes_on(live, uri):
    """As one run, whose state says where it is; no step is logged twice."""
    live().train(0, 11).leave(stopped=True)
    assert [run.info.status for run in runs(uri)] == ["KILLED"]
    life = live().train(6, 20)
    assert [run.info.status for run in runs(uri)] == ["RUNNING"]
    life.end()
    (run,) = runs(uri)
    assert run.info.status == "FINISHED"
    assert history(uri, run, "train_obt/loss") == curve(0, 20)


def test_a_failed_run(live, uri):
    """Has the reason; one whose process died before it began is there, too."""
    live().train(0, 4).fail("diverged at step 3")
    live("two").fail("its worker died")
    states = {run.info.run_name: run for run in runs(uri)}
    assert [run.info.status for run in states.values()] == ["FAILED", "FAILED"]
    assert states["one"].data.tags["reason"] == "diverged at step 3"
    assert states["two"].data.tags["reason"] == "its worker died"


def test_another_training_is_another_run(live, uri):
    """A stage that is trained again by other code begins a run; both are whole."""
    live().train(0, 20).end()
    live().train(0, 8, key="b2").end()
    curves = [history(uri, run, "train_obt/loss") for run in runs(uri)]
    assert curves == [curve(0, 20), curve(0, 8)]


def test_a_deleted_run(live, uri):
    """Begins anew at the service, whole."""
    live().train(0, 20).end()
    (deleted,) = runs(uri)
    mlflow.MlflowClient(uri).delete_run(deleted.info.run_id)
    live().train(0, 20).end()
    (run,) = runs(uri)
    assert run.info.run_id != deleted.info.run_id
    assert history(uri, run, "train_obt/loss") == curve(0, 20)


def test_it_has_what_jsonl_has(fast, cache, bench, tmp_path, uri):
    """Of runs in workers: every loss by stage and step, and every value."""
    helpers = ("--executor", "local", "-x", "local.workers=1", "--track", "jsonl")
    helpers += ("--track", "mlflow", "-x", f"mlflow.uri={uri}")
    code, _, err = bench(*tiny(*helpers, out=tmp_path / "runs"))
    assert code == 0, err
    (run,) = runs(uri)
    for stage, steps in jsonl_curves(tmp_path / "events.jsonl").items():
        assert history(uri, run, f"{stage.replace(' ', '_')}/loss") == steps
    for name, value in jsonl_rows(tmp_path / "events.jsonl").items():
        assert run.data.metrics[name] == value


def test_a_server_that_is_gone(fast, cache, bench, monkeypatch, caplog):
    """Is a warning: the run is whole."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, _, _ = bench(*tiny("--track", "mlflow", "-x", "mlflow.uri=http://127.0.0.1:9"))
    assert code == 0
    assert "this tracker hears nothing more of this run" in caplog.text
