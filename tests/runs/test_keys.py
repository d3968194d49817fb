"""What a cache key contains: which stages a change of the request redoes, and which it shares."""

from __future__ import annotations

import dataclasses

import pytest
from tiny_graph import graph

pytestmark = pytest.mark.usefixtures("fast")

JUDGE, BASE, MODEL, ROWS = "fit judge bayes", "base", "train neggrad", "measure"
GENERATION, LIKELIHOOD = "draw generation", "draw likelihood"
EVALUATION = {GENERATION, LIKELIHOOD, ROWS}


def keys(**changes):
    """Keys of all stages by name."""
    return {name: stage.key for name, stage in graph(**changes).stages.items()}


@pytest.mark.parametrize(
    ("changes", "redone"),
    [
        ({}, set()),
        ({"train_seed": 1}, {BASE, MODEL, *EVALUATION}),
        ({"unlearn_seed": 1}, {MODEL, *EVALUATION}),
        ({"sample_seed": 1}, EVALUATION),
        ({"seed": 1}, {BASE, MODEL, *EVALUATION}),
        ({"params": {"retain_weight": 0.5}}, {MODEL, *EVALUATION}),
        ({"forget": ("left",)}, {MODEL, *EVALUATION}),
        ({"steps": 6}, {BASE, MODEL, *EVALUATION}),
        ({"passes": 7}, {MODEL, *EVALUATION}),
        ({"precision": "bf16"}, {BASE, MODEL, *EVALUATION}),
        ({"samples": 8}, EVALUATION),
        ({"task_params": {"generation": {"nfe": 7}}}, {GENERATION, ROWS}),
        ({"task_params": {"likelihood": {"rtol": 1e-2}}}, {LIKELIHOOD, ROWS}),
        ({"judge_params": {"gate": 0.5}}, {ROWS}),
        ({"backbone_params": {"width": 8, "depth": 1}}, {BASE, MODEL, *EVALUATION}),
        (
            {"dataset_params": {"train_size": 400, "test_size": 500}},
            {JUDGE, BASE, MODEL, *EVALUATION},
        ),
    ],
)
def test_a_change_redoes_what_depends_on_it(changes, redone):
    """Keys of these stages change, and no other key."""
    before, after = keys(), keys(**changes)
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == redone


def test_the_place_of_the_cache_and_of_the_results_is_in_no_key(monkeypatch, tmp_path):
    """Neither a folder nor the host changes a key."""
    before = keys()
    monkeypatch.setenv("MSGM_BENCH_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("platform.node", lambda: "another-host")
    assert keys() == before


def test_a_task_may_be_called_like_a_stage():
    """Tasks named ``model`` and ``judge`` do not take the place of model and judge."""
    rows = graph().rows
    (artifact, *_) = rows.artifacts.values()
    rows = dataclasses.replace(rows, artifacts={"model": artifact, "judge": artifact})
    assert rows.needs["model"] is rows.model
    assert rows.needs["judge"] is rows.judge
    assert rows.needs[artifact.name] is artifact


def test_stages_are_values():
    """A stage is a frozen dataclass that names its needs, and has a run and JSON-ready inputs."""
    for stage in graph().stages.values():
        assert dataclasses.is_dataclass(stage)
        with pytest.raises(dataclasses.FrozenInstanceError):
            stage.runtime = None
        fields = {
            getattr(stage, field.name)
            for field in dataclasses.fields(stage)
            if field.name in ("base", "model", "judge")
        }
        assert {need for need in fields if need is not None} <= set(stage.needs.values())
