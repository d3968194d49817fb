"""Sweeps of evaluations: the run's own point, the cache, and what is refused before a draw."""

from __future__ import annotations

import json

import cli_harness
import pytest

from msgm_bench import Result
from msgm_bench.sweep import read_sweep


@pytest.fixture
def stored(bench, fast, cache, tmp_path):
    """The folder of a tiny run."""
    code, _, err = bench(*cli_harness.tiny("-t", "generation.nfe=9", method="standard"))
    assert code == 0, err
    (result,) = (tmp_path / "runs").glob("*/result.json")
    return result.parent


def test_the_run_lies_on_its_own_curve(bench, stored):
    """At the run's sampler and budget stand the run's value and its protocol's hash."""
    result = json.loads((stored / "result.json").read_text("utf-8"))
    own = result["spec"]["settings"]["tasks"]["generation"]
    names = ",".join(dict.fromkeys([own["sampler"], "deis"]))
    code, out, err = bench("sweep", "nfe", stored, "--samplers", names, "--nfe", "9,4")
    assert code == 0, err
    sweep = read_sweep(stored / "sweep.json")
    assert [point.nfe for point in sweep.points] == [4, 9] * len(sweep.samplers)
    assert all(point.evaluations <= point.nfe for point in sweep.points)
    (point,) = (p for p in sweep.points if (p.sampler, p.nfe) == (own["sampler"], 9))
    ratio = next(row for row in result["metrics"] if row["metric"] == "ur")
    (row,) = (row for row in point.rows if row.metric == "ur")
    assert row.model_dump() == ratio
    assert point.protocols[row.protocol] == result["protocols"][row.protocol]["hash"]
    assert f"{row.value:.4g}" in out
    assert (stored / "sweep.svg").exists()


def test_nothing_is_drawn_twice(bench, stored, tmp_path):
    """A second sweep of more budgets draws the new one alone, and writes elsewhere."""
    options = ("sweep", "nfe", stored, "--samplers", "deis", "--out", tmp_path / "board")
    bench(*options, "--nfe", "4")
    code, out, err = bench(*options, "--nfe", "4,6", "--json")
    assert code == 0
    assert err.count("draw generation ...") == 1
    assert json.loads(out) == json.loads((tmp_path / "board" / "sweep.json").read_text("utf-8"))
    assert not (stored / "sweep.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--samplers", "dies"), "did you mean 'deis'"),
        (
            ("--samplers", "deis,pc", "--nfe", "1,4"),
            "a budget of 1 evaluations for PredictorCorrector",
        ),
        (("--nfe", "4,many"), "--nfe has 'many'"),
        (("--nfe", "0"), "--nfe has '0'"),
    ],
)
def test_what_does_not_suit_is_refused_before_anything_is_drawn(bench, stored, options, message):
    """Unknown samplers, a budget without a step, and no number: an error, exit 2, no file."""
    code, _, err = bench("sweep", "nfe", stored, *options)
    assert code == 2
    assert message in err
    assert "draw" not in err
    assert not (stored / "sweep.json").exists()


def test_a_generator_has_no_curve(bench, stored):
    """A model that needs a sampler of its own is refused by the name of its method."""
    path = stored / "model" / "model.json"
    card = json.loads(path.read_text("utf-8"))
    needed = {"generation": {"sampler": "one_step"}}
    card["limits"] = {"maker": "sfd", "unsupported_tasks": {}, "required_task_options": needed}
    path.write_text(json.dumps(card), encoding="utf-8")
    code, _, err = bench("sweep", "nfe", stored)
    assert code == 2
    assert "models of 'sfd' are drawn from by the sampler 'one_step' alone" in err


def test_a_run_that_failed_has_no_curve(bench, stored):
    """The reason of the failure is in the error."""
    path = stored / "result.json"
    result = json.loads(path.read_text("utf-8"))
    failed = Result(status="failed", reason="no disk", spec=result["spec"])
    path.write_text(failed.to_json(), encoding="utf-8")
    code, _, err = bench("sweep", "nfe", stored)
    assert code == 2
    assert "failed: no disk" in err
