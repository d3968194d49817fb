"""Grids in workers: whatever becomes of a worker, every other run keeps its result."""

from __future__ import annotations

import json

import pytest
from cli_harness import results, tiny

from msgm_bench import Executor
from msgm_bench.experiment import grid as pipeline_grid
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.runner import run_grid

pytestmark = pytest.mark.usefixtures("fast", "probe", "cache")
METHODS = ("standard", "obt", "unseen")


class Workers(Executor):
    """Does all runs, then answers as ``answer`` makes it of their outcomes."""

    name = "workers"

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def map(self, function, cells):
        """All outcomes, changed."""
        return self.answer([function(cell) for cell in cells])


def specs(*methods):
    """Tiny runs of these methods."""
    return [
        RunSpec(
            dataset="gaussians",
            forget=("middle",),
            backbone="vesde",
            method=method,
            steps=20,
            samples=32,
            dataset_params={"train_size": 500, "test_size": 500},
            backbone_params={"width": 16, "depth": 1},
            task_params={"likelihood": {"rtol": 1e-2, "atol": 1e-2}},
        )
        for method in methods
    ]


def died(outcomes):
    """The second worker was killed; nothing of its own is left."""
    return [outcomes[0], OSError("a worker died"), *outcomes[2:]]


def stops(outcomes):
    """The executor itself breaks after the first run."""
    yield outcomes[0]
    raise RuntimeError("the pool is broken")


def leaves(outcomes):
    """A library ends the program after the first run."""
    yield outcomes[0]
    raise SystemExit(3)


@pytest.mark.parametrize("answer", [reversed, died, stops, leaves, lambda outcomes: outcomes[:1]])
def test_results_by_cell(answer, tmp_path):
    """Out of order, of a dead worker, of a broken pool: each run has its own result.

    What was published before its worker died is read, not lost.
    """
    outcomes = run_grid(specs(*METHODS), tmp_path / "runs", Workers(answer))
    assert [result.spec.method for result in outcomes] == list(METHODS)
    assert {result.status for result in outcomes} == {"ok"}
    assert set(results(tmp_path / "runs")) == {(method, 0) for method in METHODS}


@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        (died, [None, "OSError: a worker died", None]),
        (stops, [None, *2 * ["executor 'workers' stopped: RuntimeError: the pool is broken"]]),
        (lambda outcomes: (), 3 * ["executor 'workers' returned no result of this run"]),
        (lambda outcomes: 3, 3 * ["executor 'workers' stopped: TypeError"]),
    ],
)
def test_a_lost_cell_is_a_failed_result(answer, reasons, tmp_path, monkeypatch):
    """Where nothing was published, the result is failed and says what ended the worker."""
    wanted = specs(*METHODS)
    executor = Workers(lambda _: answer([(spec.folder, "unplanned") for spec in wanted]))
    with monkeypatch.context() as patch:
        patch.setattr(pipeline_grid.Job, "__call__", lambda self, spec: None)
        outcomes = run_grid(wanted, tmp_path / "runs", executor)
    assert {result.status for result in outcomes} == {"failed"}
    for result, reason in zip(outcomes, reasons, strict=True):
        assert result.reason.startswith(reason or "unplanned")
    stored = results(tmp_path / "runs")
    assert {stored[result.spec.method, 0]["reason"] for result in outcomes} == {
        result.reason for result in outcomes
    }


def test_a_plan_that_fails_in_a_worker(tmp_path, monkeypatch):
    """What only the worker cannot do, such as its device, is that run's failed result."""
    real, calls = resolve, []

    def resolve_unless_obt(spec):
        calls.append(spec.method)
        if spec.method == "obt":
            raise SystemExit("no device here")
        return real(spec)

    monkeypatch.setattr(pipeline_grid, "resolve", resolve_unless_obt)
    outcomes = run_grid(specs(*METHODS), tmp_path / "runs", Workers(list))
    assert calls == list(METHODS)
    assert [result.status for result in outcomes] == ["ok", "failed", "ok"]
    assert outcomes[1].reason == "SystemExit: no device here"


@pytest.mark.parametrize("error", [SystemExit(0), RecursionError("deep"), MemoryError()])
def test_whatever_a_stage_raises(error, bench, tmp_path, monkeypatch):
    """A library that ends the program, or breaks the stack, fails its own run alone."""
    from msgm_bench.registry import registry

    method = registry().entry("methods", "obt").cls

    def update(self, session, step):
        raise error

    monkeypatch.setattr(method, "update", update)
    code, out, _ = bench(*tiny("--json", method=("obt", "unseen"), out=tmp_path / "runs"))
    assert code == 1
    outcomes = {result["spec"]["method"]: result for result in json.loads(out)}
    assert outcomes["unseen"]["status"] == "ok"
    assert outcomes["obt"]["reason"].startswith(type(error).__name__)


def test_a_tracker_that_raises_at_a_failure(third_party, bench, tmp_path):
    """A hook that raises while a failure is told does not take the other runs down."""
    source = (
        "from msgm_bench import hookimpl\n"
        "@hookimpl\n"
        "def run_failed(reason):\n"
        "    raise OverflowError('the notebook is full')\n"
    )
    third_party("third-party-two", source, "third_party.two")
    code, _, _ = bench(*tiny(method=("explosive", "obt"), out=tmp_path / "runs"))
    assert code == 1
    stored = results(tmp_path / "runs")
    assert {name: result["status"] for (name, _), result in stored.items()} == {
        "explosive": "failed",
        "obt": "ok",
    }
