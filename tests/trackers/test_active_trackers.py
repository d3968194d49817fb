"""Trackers beside runs: refused before anything runs, and never a reason for a run to fail."""

from __future__ import annotations

import logging
import sys

import pytest
from cli_harness import only, tiny

from msgm_bench.errors import PluginError
from msgm_bench.experiment.trackers import active_trackers, check_trackers
from msgm_bench.registry import registry

FRAGILE = '''
from msgm_bench import Tracker, hookimpl

CALLS = []

class Fragile(Tracker):
    """Fails at the second step of each run."""

    name = "fragile"

    @hookimpl
    def run_started(self, folder):
        CALLS.append(folder)

    @hookimpl
    def step_ended(self, step):
        CALLS.append(step)
        if step == 2:
            raise OSError("no space left on device")

    @hookimpl
    def run_ended(self):
        CALLS.append("ended")

    @hookimpl
    def job_ended(self, stopped):
        CALLS.append(stopped)

class Broken(Tracker):
    """Cannot be made."""

    name = "broken"

    def __init__(self, options=None):
        raise ZeroDivisionError("no")

@hookimpl
def register_trackers():
    return [Fragile, Broken]
'''


@pytest.fixture
def calls(third_party):
    """What the fragile tracker has heard."""
    third_party("third-party-fragile", FRAGILE, "third_party.fragile")
    registry()
    return sys.modules["third_party_fragile"].CALLS


def steps(count):
    """Announce a run of ``count`` steps that does not end."""
    hook = registry().manager.hook
    hook.run_started(spec={}, folder=f"run of {count}")
    for step in range(1, count + 1):
        hook.step_ended(stage="train", step=step, total=count, values={})


def test_a_tracker_that_fails_is_a_warning(calls, caplog):
    """It is left alone for the rest of the run, and tried again in the next."""
    with active_trackers([("fragile", {})]), caplog.at_level(logging.WARNING):
        steps(3)
        steps(1)
    assert calls == ["run of 3", 1, 2, "run of 1", 1, False]
    (record,) = caplog.records
    assert "tracker 'fragile', step_ended: OSError: no space left on device" in record.getMessage()


def test_the_end_of_a_job_is_heard(calls):
    """Also where an exception ends it, Ctrl-C as well; and nothing after it."""

    def interrupted():
        with active_trackers([("fragile", {})]):
            steps(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    steps(1)
    assert calls == ["run of 1", 1, True]


def test_a_run_outlives_its_tracker(calls, fast, cache, bench, tmp_path, caplog):
    """The run is whole, and the command says what became of the log."""
    code, _, _ = bench(*tiny("--track", "fragile", out=tmp_path / "runs"))
    assert code == 0
    assert only(tmp_path / "runs")["status"] == "ok"
    assert "no space left on device" in caplog.text


def test_a_tracker_that_cannot_be_made(calls):
    """Names the tracker, before anything runs."""
    with pytest.raises(PluginError, match="tracker 'broken': ZeroDivisionError: no"):
        check_trackers([("broken", {})])


@pytest.mark.parametrize("name", ["jsonl", "csv"])
def test_a_file_that_cannot_be_written(name, fast, cache, bench, tmp_path):
    """Is named before anything is trained, with what to do."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "values"):
        arguments = ("--track", name, "-x", f"{name}.path={path}")
        code, _, err = bench(*tiny(*arguments, out=tmp_path / "runs"))
        assert code == 1
        assert f"the tracker '{name}' cannot write {path}: " in err
        assert f"-x {name}.path=" in err
    assert not cache.exists()
