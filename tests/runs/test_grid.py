"""Grids in workers: whatever becomes of a worker, every other run keeps its result."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import time

import pytest
from cli_harness import results, tiny

from msgm_bench import Executor, MsgmBenchError, OptionError, hookimpl
from msgm_bench.cache.cache import Cache
from msgm_bench.experiment import worker as experiment_worker
from msgm_bench.experiment.graph import build_graph
from msgm_bench.experiment.grid import Job, Schedule, plan_jobs
from msgm_bench.experiment.grid_folder import ABANDONED_SECONDS, grid_folder
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.experiment.worker_events import WorkerEvents, process_name, written_events
from msgm_bench.registry import registry
from msgm_bench.runner import run_grid

pytestmark = pytest.mark.usefixtures("fast", "probe", "cache")
METHODS = ("standard", "obt", "unseen")


class Here(concurrent.futures.Executor):
    """A pool that does jobs in this process, then answers as ``answer`` makes it of an outcome."""

    def __init__(self, answer=None):
        self.answer, self.jobs = answer or (lambda job, outcome: outcome), []

    def submit(self, function, job):
        """The future of a job that is done."""
        self.jobs.append(job)
        future = concurrent.futures.Future()
        try:
            future.set_result(self.answer(job, function(job)))
        except Exception as error:  # noqa: BLE001 - the contract of a pool
            future.set_exception(error)
        return future


class Workers(Executor):
    """An executor with one pool."""

    name = "workers"

    def __init__(self, answer=None):
        super().__init__()
        self.one = Here(answer)

    def pool(self, resources):
        """The pool."""
        self.resources = resources
        return self.one


def specs(*methods, **fields):
    """Tiny runs of these methods."""
    return [
        RunSpec(
            dataset="gaussians",
            forget=("middle",),
            backbone="vesde",
            method=method,
            **{"steps": 20, "samples": 32} | fields,
            dataset_params={"train_size": 500, "test_size": 500},
            backbone_params={"width": 16, "depth": 1},
            task_params={"likelihood": {"rtol": 1e-2, "atol": 1e-2}},
        )
        for method in methods
    ]


def died(job, outcome):
    """The worker of one run was killed; nothing of its own is left."""
    if job.stage is None and job.spec.method == "obt":
        raise OSError("a worker died")
    return outcome


def nothing(job, outcome):
    """A pool that loses what jobs return."""
    return


@pytest.mark.parametrize("answer", [None, died, nothing])
def test_results_by_run(answer, tmp_path):
    """Of a dead worker, of a pool that loses outcomes: each run has its own result.

    What was published before its worker died is read, not lost.
    """
    outcomes = run_grid(specs(*METHODS), tmp_path / "runs", Workers(answer))
    assert [result.spec.method for result in outcomes] == list(METHODS)
    assert {result.status for result in outcomes} == {"ok"}
    assert set(results(tmp_path / "runs")) == {(method, 0) for method in METHODS}
    assert not list((tmp_path / "runs").glob(".*")), "nothing is left of the workers' folder"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (died, "OSError: a worker died"),
        (nothing, "executor 'workers' returned no result of this run"),
        (lambda job, outcome: "no such data here", "no such data here"),
    ],
)
def test_a_lost_run_is_a_failed_result(answer, reason, tmp_path, monkeypatch):
    """Where nothing was published, the result is failed and says what ended the worker."""
    monkeypatch.setattr(experiment_worker.Worker, "__call__", lambda self, job: None)
    (outcome,) = run_grid(specs("obt"), tmp_path / "runs", Workers(answer))
    assert outcome.status == "failed"
    assert outcome.reason == reason
    assert results(tmp_path / "runs")["obt", 0]["reason"] == reason


def test_a_shared_stage_that_fails(tmp_path, monkeypatch):
    """The base model's failure is the reason of each run that needs it, which never starts."""
    real, executor = resolve, Workers()

    def resolve_unless_base(spec):
        if executor.one.jobs[-1].stage == "base":
            raise SystemExit("no device here")
        return real(spec)

    monkeypatch.setattr(experiment_worker, "resolve", resolve_unless_base)
    wanted = [*specs("obt", "salun", regime="finetune"), *specs("unseen")]
    outcomes = run_grid(wanted, tmp_path / "runs", executor)
    assert [result.status for result in outcomes] == ["failed", "failed", "ok"]
    for result in outcomes[:2]:
        assert result.reason.endswith(
            "'base', which this run shares, failed: SystemExit: no device here"
        )
    sent = [job.spec.method for job in executor.one.jobs if job.stage is None]
    assert sent == ["unseen"]


def test_a_plan_that_fails_in_a_worker(tmp_path, monkeypatch):
    """What only the worker cannot do, such as its device, is that run's failed result."""
    real, executor = resolve, Workers()

    def resolve_unless_obt(spec):
        if executor.one.jobs[-1].name == wanted[1].model_copy(update={"threads": 1}).folder:
            raise SystemExit("no device here")
        return real(spec)

    wanted = specs(*METHODS)
    monkeypatch.setattr(experiment_worker, "resolve", resolve_unless_obt)
    outcomes = run_grid(wanted, tmp_path / "runs", executor)
    assert [result.status for result in outcomes] == ["ok", "failed", "ok"]
    assert outcomes[1].reason == "SystemExit: no device here"


def test_a_pool_that_does_not_open(tmp_path):
    """A scheduler that does not answer fails what would be sent; wrong options stop the grid."""
    run_grid(specs("unseen", threads=1), tmp_path / "runs")
    executor = Workers()

    def pool(resources):
        raise MsgmBenchError("the scheduler does not answer")

    executor.pool = pool
    done, lost = run_grid(specs("unseen", "obt"), tmp_path / "runs", executor)
    assert (done.status, lost.status) == ("ok", "failed")
    assert lost.reason == "the scheduler does not answer"
    with pytest.raises(OptionError, match="cuda:1"):
        run_grid(specs("obt", device="cuda:1"), tmp_path / "runs", executor)


def test_what_is_done_or_skipped_is_not_sent(tmp_path):
    """Cached runs, stored results and methods that are skipped are answered by the command."""
    run_grid(specs("obt", threads=1), tmp_path / "runs")
    executor = Workers()
    wanted = [*specs("obt", "standard"), *specs("sfd")]
    outcomes = run_grid(wanted, tmp_path / "runs", executor)
    assert [result.status for result in outcomes] == ["ok", "ok", "skipped"]
    assert [job.spec.method for job in executor.one.jobs] == ["standard"]
    assert (executor.resources.threads, executor.resources.gpu) == (1, True)
    other = run_grid(specs("obt", "standard"), tmp_path / "other", executor)
    assert [result.metrics for result in other] == [result.metrics for result in outcomes[:2]]
    assert len(executor.one.jobs) == 1, "what is cached needs no worker"


def test_stages_that_runs_share_are_jobs(tmp_path):
    """A stage of two runs is one job, before them and after its own needs; others are no jobs."""
    plans = [resolve(spec) for spec in specs("standard", "obt", "salun", regime="finetune")]
    plans = [plan for plan in plans if plan.skipped is None]
    jobs = plan_jobs(plans, Cache())
    graphs = {plan.spec.folder: build_graph(plan).stages for plan in plans}
    keys = [key for stages in graphs.values() for key in {s.key for s in stages.values()}]
    assert {name for name, job in jobs.items() if job.stage} == {
        key for key in keys if keys.count(key) > 1
    }
    base = next(stages["base"].key for stages in graphs.values() if "base" in stages)
    for folder, stages in graphs.items():
        assert jobs[folder].needs == {s.key for s in stages.values()} & jobs.keys()
        assert base in jobs[folder].needs
    assert list(jobs)[-len(plans) :] == list(graphs), "runs come last"


class Slow(concurrent.futures.Executor):
    """A pool that ends its jobs when the test says so."""

    def __init__(self):
        self.futures = {}

    def submit(self, function, job):
        """A future that waits."""
        self.futures[job.name] = concurrent.futures.Future()
        return self.futures[job.name]


def test_a_job_waits_for_its_needs_alone(tmp_path):
    """It is submitted when the last of them is done, whatever else still goes on."""
    (spec,) = specs("obt")
    jobs = [
        Job("a", spec, "a"),
        Job("b", spec, "b"),
        Job("c", spec, "c", frozenset("a")),
        Job("d", spec, needs=frozenset("ac")),
        Job("e", spec, needs=frozenset("b")),
    ]
    pool = Slow()
    schedule = Schedule(pool, print, {job.name: job for job in jobs})
    outcomes = schedule.outcomes()
    schedule.submit_ready()
    assert set(pool.futures) == set("ab")
    pool.futures["a"].set_result(None)
    assert next(outcomes)[0].name == "a"
    pool.futures["b"].set_exception(OSError("full"))
    names = [next(outcomes)[0].name for _ in range(2)]
    assert names == ["b", "e"], "what needs a job that failed fails at once"
    assert set(pool.futures) == set("abc")
    pool.futures["c"].set_result(None)
    assert next(outcomes)[0].name == "c"
    assert set(pool.futures) == set("abcd")


@pytest.mark.parametrize("error", [SystemExit(0), RecursionError("deep"), MemoryError()])
def test_whatever_a_stage_raises(error, bench, tmp_path, monkeypatch):
    """A library that ends the program, or breaks the stack, fails its own run alone."""
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


def test_abandoned_folders_of_grids(tmp_path):
    """What a kill left goes after a day, unless a command still uses it."""
    with grid_folder(tmp_path) as first:
        old = time.time() - 2 * ABANDONED_SECONDS
        os.utime(first, (old, old))
        left = tmp_path / ".grid-left"
        left.mkdir()
        os.utime(left, (old, old))
        with grid_folder(tmp_path) as second:
            assert {path.name for path in tmp_path.glob(".grid-*")} == {first.name, second.name}
    assert not list(tmp_path.glob(".grid-*"))


class Notes:
    """Writes down the life-cycle events of a job."""

    def __init__(self):
        self.lines = []

    @hookimpl
    def run_started(self, spec, folder):
        """The method."""
        self.lines.append(spec["method"])

    @hookimpl
    def step_ended(self, stage, step, total, values):
        """Stage and step."""
        self.lines.append((stage, step, total))

    @hookimpl
    def stage_ended(self, stage, key, seconds, cached):
        """The stage."""
        self.lines.append((stage, cached))


def test_events_of_workers_reach_the_command(tmp_path):
    """A listener a job hears them, steps at most one a second, until the job ends.

    A job in the command's own process has no listener: its events are heard there.
    """
    notes, hook = [], registry().manager.hook

    @contextlib.contextmanager
    def listener():
        notes.append(Notes())
        yield notes[-1]
        notes[-1].lines.append("left")

    def work(path, command):
        with written_events(path, command):
            hook.run_started(spec={"method": path.name}, folder="f")
            for step in (1, 2):
                hook.step_ended(stage="train", step=step, total=2, values={"loss": float("nan")})
            hook.stage_ended(stage="train", key="k", seconds=1.0, cached=False)

    folder = tmp_path / "events"
    folder.mkdir()
    with WorkerEvents(folder, listener) as events:
        work(folder / "a", "another process")
        events.end("a")
        work(folder / "b", process_name())
        events.end("b")
    (heard,) = notes
    assert heard.lines == ["a", ("train", 1, 2), ("train", False), "left"]
    assert not list(folder.iterdir())
