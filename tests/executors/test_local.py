"""The built-in executor and tracker, alone and from the command line."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_harness import results, tiny

from msgm_bench import OptionError, OptionText, Resources
from msgm_bench.testing import check_executor, check_tracker
from msgm_bench.training.interrupt import deferred
from msgm_builtin.executors.local import Local
from msgm_builtin.trackers.jsonl import JsonLines, json_value


def test_the_executor_conforms():
    """Order, exceptions, a worker that dies, Ctrl-C; with fewer workers than cells."""
    check_executor(Local, {"workers": 2})


def test_the_tracker_conforms():
    """Whole lives of runs."""
    check_tracker(JsonLines)
    check_tracker(JsonLines, {"path": "folder/of/its/own.jsonl", "log_interval": 1})


def loud(cell):
    """Print in every way."""
    sys.stdout.write("by print")
    sys.stdout.flush()
    os.write(1, b"by descriptor")
    return cell


@contextlib.contextmanager
def opened(tmp_path, gpu=False, threads=1, **options):
    """A pool of local processes."""
    pool = Local.create(options).pool(Resources(threads, gpu, tmp_path))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def test_what_workers_print_is_not_stdout(capfd, tmp_path):
    """Stdout is the command's."""
    with opened(tmp_path, workers=1) as pool:
        assert pool.submit(loud, 3).result() == 3
    streams = capfd.readouterr()
    assert streams.out == ""
    assert "by print" in streams.err
    assert "by descriptor" in streams.err


def test_workers_end_with_the_command(tmp_path):
    """A command that is killed leaves no process that works on."""
    source = (
        "import os, sys, time\n"
        "from msgm_bench import Resources\n"
        "from msgm_builtin.executors.local import Local\n"
        "def work(path):\n"
        "    open(path, 'w').write(str(os.getpid()))\n"
        "    time.sleep(120)\n"
        "pool = Local.create({'workers': 1}).pool(Resources(1, False, None))\n"
        "pool.submit(work, sys.argv[1]).result()\n"
    )
    place = tmp_path / "pid"
    command = subprocess.Popen([sys.executable, "-c", source, str(place)])
    until(lambda: place.exists() and place.read_text("utf-8"), 60)
    worker = int(place.read_text("utf-8"))
    command.kill()
    command.wait()
    until(lambda: not alive(worker), 30)


def until(condition, seconds):
    """Wait for it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def alive(pid):
    """Whether the process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def environment(names):
    """Variables of the process, before which torch was not imported."""
    return [os.environ.get(name) for name in names]


@pytest.mark.parametrize(
    ("options", "cards"),
    [
        ({}, ["5", "GPU-b"]),
        ({"per_gpu": 2}, ["5", "5", "GPU-b", "GPU-b"]),
        ({"gpus": OptionText("1")}, ["GPU-b"]),
        ({"gpus": OptionText("0,1")}, ["5", "GPU-b"]),
        ({"gpus": (1, 0), "per_gpu": 2, "workers": 3}, ["5", "GPU-b", "GPU-b"]),
    ],
)
def test_a_process_sees_one_gpu(options, cards, tmp_path, monkeypatch):
    """GPUs of the command go round, by the names that CUDA has for them; none for --device cpu."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-b")
    with opened(tmp_path, gpu=True, **options) as pool:
        assert sorted(slot.variables["CUDA_VISIBLE_DEVICES"] for slot in pool.slots) == cards
    with opened(tmp_path, **options) as pool:
        assert len(pool.slots) == options.get("workers", 2)
        assert not any("CUDA_VISIBLE_DEVICES" in slot.variables for slot in pool.slots)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"workers": 3}, "3 workers on 2 GPUs"),
        ({"workers": 2, "gpus": (0,)}, "2 workers on 1 GPU\nallowed: at most 1 with"),
        ({"gpus": (2,)}, "'gpus' of local has 2: the command sees 2 GPUs"),
    ],
)
def test_more_slots_than_gpus(options, sentence, tmp_path, monkeypatch):
    """Refused before training."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(OptionError, match=sentence), opened(tmp_path, gpu=True, **options):
        pass


def test_a_process_has_its_variables_from_the_start(tmp_path, monkeypatch):
    """Threads and GPU stand in the environment before anything is imported."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    names = ["OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"]
    with opened(tmp_path, gpu=True, threads=3) as pool:
        assert pool.submit(environment, names).result() == ["3", "0"]


def wait_for_signal(path):
    """Note SIGTERM, as training does, and end."""
    with deferred() as interrupt:
        Path(path).write_text(str(os.getpid()), "utf-8")
        while not interrupt.is_requested:
            time.sleep(0.02)
    Path(path).write_text("stored", "utf-8")


def test_an_interrupt_ends_jobs_between_two_steps(tmp_path):
    """SIGTERM reaches training, which stores a checkpoint; jobs that wait are cancelled."""
    place = tmp_path / "pid"
    pool = Local.create({"workers": 1}).pool(Resources(1, False, tmp_path))
    first, second = pool.submit(wait_for_signal, str(place)), pool.submit(loud, 3)
    until(lambda: place.exists() and place.read_text("utf-8"), 60)
    worker = int(place.read_text("utf-8"))
    pool.shutdown(cancel_futures=True)
    assert first.result() is None
    assert second.cancelled()
    assert place.read_text("utf-8") == "stored"
    until(lambda: not alive(worker), 30)


@pytest.mark.slow
def test_an_interrupt_in_a_worker_stops_the_command(
    probe, fast, cache, bench, tmp_path, monkeypatch
):
    """The run that trains stores a checkpoint, and the same command again goes on from it."""
    monkeypatch.setenv("PROBE_KILL", "SIGINT|train obt|5")
    monkeypatch.setenv("PYTHONPATH", f"{probe}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    arguments = tiny("--executor", "local", "-x", "local.workers=1", out=tmp_path / "runs")
    code, _, err = bench(*arguments)
    assert code == 130
    assert "repeat the command to resume" in err
    assert [path.name for path in cache.glob("partial/*/checkpoint.pt")] == ["checkpoint.pt"]
    assert not list((tmp_path / "runs").iterdir())
    monkeypatch.delenv("PROBE_KILL")
    monkeypatch.setenv("PROBE_LOG", str(tmp_path / "log"))
    assert bench(*arguments)[0] == 0
    events = [json.loads(line) for line in (tmp_path / "log").read_text("utf-8").splitlines()]
    steps = [event[2] for event in events if event[:2] == ["step_ended", "train obt"]]
    assert steps == list(range(6, 21))


def test_a_grid_in_processes(fast, cache, bench, tmp_path, monkeypatch):
    """Values are those of one process, trackers hear of every cell, and stdout holds JSON."""
    grid = {"method": ("obt", "unseen")}
    log = tmp_path / "log" / "events.jsonl"
    helpers = ("--executor", "local", "-x", "local.workers=2", "--track", "jsonl")
    code, out, err = bench(
        *tiny(*helpers, "-x", f"jsonl.path={log}", "--json", out=tmp_path / "a", **grid)
    )
    assert code == 0, err
    assert [document["spec"]["method"] for document in json.loads(out)] == ["obt", "unseen"]
    events = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    for name in ("obt", "unseen"):
        starts = [e for e in events if e["event"] == "run_started"]
        (run,) = {e["run"] for e in starts if e["spec"]["method"] == name}
        names = [e["event"] for e in events if e["run"] == run]
        assert names[0] == "run_started"
        assert names[-1] == "run_ended"
        assert {"stage_started", "step_ended", "stage_ended", "metric_computed"} <= set(names)
    computed = [e["key"] for e in events if e["event"] == "stage_started"]
    assert len(computed) == len(set(computed)), "a stage that runs share is computed once"
    assert "obt, vesde, seed 0: train obt ..." in err
    assert "[2/2]" in err
    monkeypatch.setenv("MSGM_BENCH_CACHE", str(tmp_path / "another cache"))
    assert bench(*tiny(out=tmp_path / "b", **grid))[0] == 0
    a, b = results(tmp_path / "a"), results(tmp_path / "b")
    assert {key: r["metrics"] for key, r in a.items()} == {
        key: r["metrics"] for key, r in b.items()
    }
    keys = [{key: r["provenance"]["stages"] for key, r in actual.items()} for actual in (a, b)]
    assert keys[0] == keys[1], "keys know nothing of the executor"


def test_a_worker_that_dies_is_a_failed_run(probe, fast, cache, bench, tmp_path, monkeypatch):
    """Killed in its training: that cell fails with the signal's name, and the others go on."""
    monkeypatch.setenv("PROBE_KILL", "SIGKILL|train obt|5")
    monkeypatch.setenv("PYTHONPATH", f"{probe}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    log = tmp_path / "events.jsonl"
    helpers = ("--executor", "local", "-x", "local.workers=1", "--track", "jsonl")
    helpers += ("-x", f"jsonl.path={log}")
    code, _, err = bench(*tiny(*helpers, method=("obt", "unseen"), out=tmp_path / "runs"))
    assert code == 1, err
    actual = results(tmp_path / "runs")
    assert actual["unseen", 0]["status"] == "ok"
    assert actual["obt", 0]["status"] == "failed"
    assert "the process of this run died (SIGKILL(-9))" in actual["obt", 0]["reason"]
    events = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    (failed,) = [event for event in events if event["event"] == "run_failed"]
    assert failed["spec"]["method"] == "obt"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-x", "local.workers=2"), "-x for local\nallowed: none without --executor or --track"),
        (("--track", "jsonl", "-x", "local.workers=2"), "-x for local\nallowed: jsonl"),
        (("--track", "jsonl", "-x", "path=a"), "-x path: write NAME.key=value"),
        (("--track", "jsonl", "-x", "jsonl.file=a"), "jsonl has no option 'file'"),
        (("--track", "jsonl", "-x", "jsonl.log_interval=0"), "option 'log_interval' of jsonl = 0"),
        (("--executor", "local", "-x", "local.workers=0"), "option 'workers' of local = 0"),
        (("--executor", "lokal"), "did you mean 'local'?"),
        (("--track", "jsnl"), "did you mean 'jsonl'?"),
    ],
)
def test_wrong_options(options, message, fast, cache, bench, tmp_path):
    """Refused before anything runs, and where nothing is to run."""
    for dry in ((), ("--dry-run",)):
        code, _, err = bench(*tiny(*options, *dry, out=tmp_path / "runs"))
        assert code == 2
        assert message in err
        assert not (tmp_path / "runs").exists()


def test_numbers_that_are_not_finite_are_null():
    """At any depth; the rest stays."""
    value = {"a": [1.5, float("nan")], "b": {"c": float("inf")}, "d": "x"}
    assert json_value(value) == {"a": [1.5, None], "b": {"c": None}, "d": "x"}
