"""Metrics that compare artifacts with those of the base model."""

from __future__ import annotations

import cli_harness
import pytest
from cli_harness import results, tiny
from tiny_graph import SPEC, graph

from msgm_bench.experiment.graph import build_graph
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.skipped import reasons
from msgm_bench.registry import registry


@pytest.fixture
def shifting(third_party, fast):
    """The plugin of ``third_party/third_party_base.py``, installed."""
    source = (cli_harness.THIRD_PARTY / "third_party_base.py").read_text("utf-8")
    return third_party("third-party-base", source, "third_party.base")


def shifts(out):
    """Values of the metric, by method."""
    values = {}
    for (name, _), result in results(out).items():
        values[name] = [row["value"] for row in result["metrics"] if row["metric"] == "shift"]
    return values


def test_the_base_draws_what_a_run_of_its_own_draws(shifting):
    """Its artifact has the key of that of ``standard``; where the model is the base, it is its."""
    own = graph(method="standard", regime=None)
    for method in ("neggrad", "unseen"):
        stages = graph(method=method, regime=None).stages
        assert stages["base"].key == own.model.key
        assert stages["base of generation"].key == own.artifacts["generation"].key
    assert "base of generation" not in own.stages
    assert own.rows.bases["generation"] is own.artifacts["generation"]


def test_the_log_and_a_dry_run_tell_the_drawings_apart(shifting, cache, bench):
    """No stage of a run is named twice, and both views name them alike."""
    request = tiny(method="finetune")
    code, out, _ = bench(*request, "--dry-run")
    assert code == 0
    listed = [line[: line.index("to do")].strip() for line in out.splitlines() if "to do" in line]
    code, _, errors = bench(*request)
    assert code == 0
    done = [line.split(":")[0].strip() for line in errors.splitlines() if ": done in" in line]
    assert sorted(done) == sorted(set(listed)) == sorted(listed)
    assert {"draw generation", "base of generation"} <= set(done)


def test_the_base_keeps_its_own_sampler(shifting, monkeypatch):
    """Options that the method's model requires of a task are not those of the base."""
    cls = registry().entry("methods", "neggrad").cls
    required = {"generation": {"nfe": 30}}
    monkeypatch.setattr(cls, "required_task_options", lambda self, model: required)
    made = graph()
    assert made.artifacts["generation"].task.options.nfe == 30
    assert made.bases["generation"].task.options.nfe != 30


def test_without_such_a_metric_the_base_draws_nothing(fast):
    """No further stage."""
    assert not graph().bases
    assert "base of generation" not in graph().stages


def test_values_against_the_base(shifting, cache, bench, tmp_path):
    """``standard`` is its own base; others moved, and so with a given base."""
    code, _, errors = bench(*tiny(method=["standard", "finetune"]))
    assert code == 0, errors
    values = shifts(tmp_path / "runs")
    assert values["standard"] == [0.0]
    assert values["finetune"][0] > 0
    (run,) = (tmp_path / "runs").glob("*standard*")
    out = tmp_path / "more"
    code, _, errors = bench(*tiny("--base", run, method="finetune", out=out))
    assert code == 0, errors
    assert shifts(out)["finetune"][0] > 0
    plan = resolve(SPEC.model_copy(update={"model": str(run / "model")}))
    assert "not known of a stored model" in reasons(plan.evaluation.skipped)["shift"]
    assert not build_graph(plan).bases
