"""The built-in executor and tracker, alone and from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_harness import results, tiny

from msgm_bench import StorageError
from msgm_bench.testing import check_executor, check_tracker
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
    """Print in every way, and end as its option says."""
    sys.stdout.write("by print")
    sys.stdout.flush()
    os.write(1, b"by descriptor")
    return cell


def test_what_workers_print_is_not_stdout(capfd):
    """Stdout is the command's."""
    assert list(Local.create({"workers": 1}).map(loud, [3])) == [3]
    streams = capfd.readouterr()
    assert streams.out == ""
    assert "by print" in streams.err
    assert "by descriptor" in streams.err


def test_workers_end_with_the_command(tmp_path):
    """A command that is killed leaves no process that works on."""
    source = (
        "import os, sys, time\n"
        "from msgm_builtin.executors.local import Local\n"
        "def work(path):\n"
        "    open(path, 'w').write(str(os.getpid()))\n"
        "    time.sleep(120)\n"
        "list(Local.create({'workers': 1}).map(work, sys.argv[1:]))\n"
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
        (start,) = [
            e for e in events if e["event"] == "run_started" and e["spec"]["method"] == name
        ]
        names = [e["event"] for e in events if e["run"] == start["run"]]
        assert names[0] == "run_started"
        assert names[-1] == "run_ended"
        assert {"stage_started", "step_ended", "stage_ended", "metric_computed"} <= set(names)
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


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    """With what to do."""
    tracker = JsonLines.create({"path": str(tmp_path)})
    with pytest.raises(StorageError, match="the tracker 'jsonl' cannot write"):
        tracker.run_started(spec={}, folder="a")


def test_numbers_that_are_not_finite_are_null():
    """At any depth; the rest stays."""
    value = {"a": [1.5, float("nan")], "b": {"c": float("inf")}, "d": "x"}
    assert json_value(value) == {"a": [1.5, None], "b": {"c": None}, "d": "x"}
