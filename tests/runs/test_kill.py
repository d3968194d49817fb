"""A killed run, resumed, ends with the numbers of one that was not killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import kills
import pytest
from cli_harness import only, tiny

from msgm_bench.registry import registry

pytestmark = pytest.mark.usefixtures("fast", "probe")
CHUNKS = ("-t", "generation.batch_size=8", "-t", "likelihood.batch_size=16")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Where the rows of the run that was not killed are kept, once they are known."""
    return {}


def rows_of_unkilled(reference, bench, tmp_path, monkeypatch, arguments):
    """Metric rows of ``arguments`` in a cache of their own."""
    key = tuple(arguments)
    if key not in reference:
        monkeypatch.setenv("MSGM_BENCH_CACHE", str(tmp_path / "other-cache"))
        out = tmp_path / "unkilled"
        assert bench(*tiny(*arguments, out=out))[0] == 0
        reference[key] = only(out)["metrics"]
    return reference[key]


def told(log):
    """Events of three words that the probe wrote down: (kind, stage, what)."""
    events = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    return [event for event in events if len(event) == 3]


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ("train obt|13", "checkpoint.pt"),
        ("draw generation|16", "chunk-00000008.safetensors"),
        ("draw likelihood|32", "chunk-00000016.safetensors"),
        ("train obt|end", None),
        ("draw likelihood|end", None),
    ],
)
def test_kill_and_resume(where, left, cache, child, bench, tmp_path, monkeypatch, reference):
    """SIGKILL in training, in sampling and between stages changes no number."""
    out, log = tmp_path / "runs", tmp_path / "log"
    killed = child(tiny(*CHUNKS, out=out), PROBE_KILL=f"SIGKILL|{where}", PROBE_CHECKPOINT="-1")
    assert killed.code() == -signal.SIGKILL, killed.output.read_text()
    assert not list(out.rglob("result.json"))
    partial = [path.name for path in cache.glob("partial/*/*")]
    assert left in partial if left else not partial
    monkeypatch.setenv("PROBE_LOG", str(log))
    code, _, err = bench(*tiny(*CHUNKS, out=out))
    assert code == 0, err
    monkeypatch.delenv("PROBE_LOG")
    expected = rows_of_unkilled(reference, bench, tmp_path, monkeypatch, CHUNKS)
    assert only(out)["metrics"] == expected
    stage, when = where.split("|")
    steps = [step for kind, name, step in told(log) if kind == "step_ended" and name == stage]
    if stage.startswith("train"):  # the hook hears of step 13 before its checkpoint is written
        assert steps == ([] if when == "end" else list(range(13, 21)))
    assert not list(cache.glob("partial/*/*"))


def test_resume_draws_only_what_is_missing(cache, child, bench, tmp_path, monkeypatch):
    """Chunks that a killed run finished are read, not drawn again."""
    out = tmp_path / "runs"
    killed = child(tiny(*CHUNKS, out=out), PROBE_KILL="SIGKILL|draw generation|16")
    assert killed.code() == -signal.SIGKILL
    task = registry().entry("tasks", "generation").cls
    original, starts = task.draw, []

    def draw(self, context, start, count):
        starts.append(start)
        return original(self, context, start, count)

    monkeypatch.setattr(task, "draw", draw)
    assert bench(*tiny(*CHUNKS, out=out))[0] == 0
    assert starts == [16, 24]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_interrupt_in_training(name, cache, bench, tmp_path, monkeypatch, reference):
    """Ctrl-C ends with 130 after a checkpoint, and the same command goes on from it."""
    out, log = tmp_path / "runs", tmp_path / "log"
    monkeypatch.setenv("PROBE_KILL", f"{name}|train obt|7")
    code, _, err = bench(*tiny(*CHUNKS, out=out))
    assert code == 130
    assert "repeat the command to resume" in err
    assert not list(out.rglob("result.json"))
    assert [path.name for path in cache.glob("partial/*/checkpoint.pt")] == ["checkpoint.pt"]
    monkeypatch.delenv("PROBE_KILL")
    monkeypatch.setenv("PROBE_LOG", str(log))
    assert bench(*tiny(*CHUNKS, out=out))[0] == 0
    steps = [step for kind, name, step in told(log) if (kind, name) == ("step_ended", "train obt")]
    assert steps == list(range(8, 21))
    monkeypatch.delenv("PROBE_LOG")
    expected = rows_of_unkilled(reference, bench, tmp_path, monkeypatch, CHUNKS)
    assert only(out)["metrics"] == expected


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_interrupt_between_steps(name, cache, bench, tmp_path, monkeypatch):
    """Both end with 130 while samples are drawn, too, and keep the chunks."""
    out = tmp_path / "runs"
    monkeypatch.setenv("PROBE_KILL", f"{name}|draw generation|16")
    code, _, err = bench(*tiny(*CHUNKS, out=out))
    assert code == 130
    assert "repeat the command to resume" in err
    assert len(list(cache.glob("partial/*/chunk-*"))) == 2
    monkeypatch.delenv("PROBE_KILL")
    assert bench(*tiny(*CHUNKS, out=out))[0] == 0


def test_sigterm_ends_a_grid_with_its_workers(cache, tmp_path):
    """In the background, where Ctrl-C is ignored: a sentence, no folder and no worker is left."""
    out = tmp_path / "runs"
    grid = ("--method", "standard", "--executor", "local", "-x", "local.workers=2")
    command = [sys.executable, "-m", "msgm_bench", *tiny("--steps", "100000", *grid, out=out)]
    background = ["sh", "-c", "trap '' INT; exec \"$@\"", "-", *command]
    process = subprocess.Popen(background, stderr=subprocess.PIPE, text=True)
    while not list(out.glob(".grid-*/events/*")):
        assert process.poll() is None
        time.sleep(0.1)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "repeat the command to resume" in err
    assert "leaked" not in err
    assert not list(out.glob(".grid-*"))


def test_two_processes_on_one_cache(cache, child, tmp_path):
    """They end with equal results, and each stage is computed once."""
    logs = [tmp_path / "log-0", tmp_path / "log-1"]
    both = [
        child(tiny(out=tmp_path / f"runs-{i}"), PROBE_LOG=str(logs[i]), PROBE_SLOW="0.03")
        for i in range(2)
    ]
    assert [each.code() for each in both] == [0, 0]
    first, second = only(tmp_path / "runs-0"), only(tmp_path / "runs-1")
    assert first["metrics"] == second["metrics"]
    steps = [
        step
        for log in logs
        for kind, name, step in told(log)
        if (kind, name) == ("step_ended", "train obt")
    ]
    assert steps == list(range(1, 21))
    assert not list(cache.glob("partial/*"))


@pytest.mark.slow
def test_kills_at_random_moments(probe, tmp_path):
    """Killed while it trains, draws, measures and publishes: equal values, equal files, no litter.

    ``python tests/runs/kills.py 60`` does so in three configurations, as often as one likes.
    """
    assert kills.kill_and_compare("from a base", 1, tmp_path / "kills", probe, seed=0) >= 2
