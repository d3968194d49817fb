"""Runs of Weights & Biases that are written for a later upload, read back from their files."""

from __future__ import annotations

import json
import struct
from collections import Counter

import pytest
from cli_harness import tiny
from lives import RESULT, SPEC, VALUES, Life, curve, jsonl_curves, jsonl_rows

from msgm_bench import UsageError
from msgm_bench.testing import check_tracker
from msgm_builtin.trackers.wandb import Wandb

wandb = pytest.importorskip("wandb")
messages = pytest.importorskip("wandb.proto.wandb_internal_pb2")

HEADER, BLOCK, WHOLE, LAST = 7, 32768, 1, 4


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """No login, no settings and no folder of the user."""
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    yield
    wandb.teardown()


def records(path):
    """The messages of a file, which is a log in LevelDB's format behind a header."""
    data, place, message = path.read_bytes(), HEADER, b""
    while place + 7 <= len(data):
        room = BLOCK - place % BLOCK
        if room < 7:
            place += room
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        message += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (WHOLE, LAST):
            record = messages.Record()
            record.ParseFromString(message)
            message = b""
            yield record


def items(part):
    """Values by name."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in part}


class Runs:
    """The runs in a folder by id: rows of their history, summary, and the record of each part."""

    def __init__(self, folder):
        wandb.teardown()  # its service has written all by then
        self.history, self.summary, self.started = {}, {}, {}
        for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
            for record in records(path):
                kind = record.WhichOneof("record_type")
                id = path.stem.removeprefix("run-")
                if kind == "run":
                    self.started[id] = record.run
                if kind == "history":
                    self.history.setdefault(id, []).append(items(record.history.item))
                if kind == "summary":
                    self.summary.setdefault(id, {}).update(items(record.summary.update))

    def curve(self, id, stage):
        """Losses of a stage by step; an error where a step has two rows."""
        rows = [row for row in self.history[id] if f"{stage}/loss" in row]
        assert max(Counter(row[f"{stage}/step"] for row in rows).values()) == 1
        return {row[f"{stage}/step"]: row[f"{stage}/loss"] for row in rows}


@pytest.fixture
def live(tmp_path):
    """``live(name)`` begins a process with a run."""
    options = {"mode": "offline", "dir": str(tmp_path)}
    return lambda name="one": Life(Wandb.create(options), tmp_path / "runs" / name)


def test_it_conforms(monkeypatch):
    """Whole lives of runs."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_tracker(Wandb)


def test_a_run_is_read_back(live, tmp_path):
    """Its history by stage, its summary, its configuration and its name."""
    live().train(0, 20).end()
    runs = Runs(tmp_path)
    (id,) = runs.started
    assert runs.curve(id, "train_obt") == curve(0, 20)
    assert {name: runs.summary[id][name] for name in VALUES} == VALUES
    assert runs.summary[id]["status"] == "ok"
    started = runs.started[id]
    assert (started.display_name, started.project) == ("one", "msgm-bench")
    config = items(started.config.update)
    assert config["spec"] == json.loads(SPEC.model_dump_json())


def test_a_resumed_run_goes_on(live, tmp_path):
    """Under its id, and no step is logged twice."""
    live().train(0, 11).leave(stopped=True)
    live().train(6, 20).end()
    runs = Runs(tmp_path)
    (id,) = runs.started
    assert runs.curve(id, "train_obt") == curve(0, 20)


def test_another_training_is_another_run(live, tmp_path):
    """A stage that is trained again by other code begins a run; both are whole."""
    live().train(0, 20).end()
    live().train(0, 8, key="b2").end()
    runs = Runs(tmp_path)
    curves = [runs.curve(id, "train_obt") for id in runs.started]
    assert sorted(map(len, curves)) == [4, 10]


def test_another_project_has_it_all(live, tmp_path):
    """A run that is tracked elsewhere, too, is whole there."""
    live().train(0, 6).end()
    options = {"mode": "offline", "dir": str(tmp_path), "project": "another"}
    Life(Wandb.create(options), tmp_path / "runs" / "one").train(0, 6).end()
    runs = Runs(tmp_path)
    curves = {run.project: runs.curve(id, "train_obt") for id, run in runs.started.items()}
    assert curves == {"msgm-bench": curve(0, 6), "another": curve(0, 6)}


def test_two_processes_of_a_run(live, tmp_path):
    """A judge that is trained meanwhile is a second run beside it, which stays the second."""
    first, second = live().train(0, 4), live()
    second.train(0, 6, stage="judge").leave()
    first.leave()
    live().train(4, 8).end()
    runs = Runs(tmp_path)
    names = {run.display_name: id for id, run in runs.started.items()}
    assert set(names) == {"one", "one (2)"}
    assert runs.curve(names["one"], "train_obt") == curve(0, 8)
    assert runs.curve(names["one (2)"], "judge") == curve(0, 6)


def test_two_runs_in_one_process(live, tmp_path):
    """Each is a run of its own."""
    life = live("one").train(0, 4)
    life.hook.run_ended(result=RESULT, folder=life.folder)
    life.folder = str(tmp_path / "runs" / "two")
    life.hook.run_started(spec=SPEC.model_dump(), folder=life.folder)
    life.train(0, 2).end()
    runs = Runs(tmp_path)
    lengths = {
        run.display_name: len(runs.curve(id, "train_obt")) for id, run in runs.started.items()
    }
    assert lengths == {"one": 2, "two": 1}


def test_without_a_login(monkeypatch):
    """Refused with what to do, before anything runs."""
    with pytest.raises(UsageError, match=r"no login .*\n`wandb login`"):
        Wandb.create({})


def test_it_has_what_jsonl_has(fast, cache, bench, tmp_path):
    """Of runs in workers: every loss by stage and step, and every value."""
    helpers = ("--executor", "local", "-x", "local.workers=1", "--track", "jsonl")
    helpers += ("--track", "wandb", "-x", "wandb.mode=offline")
    code, out, err = bench(*tiny(*helpers, "--json", out=tmp_path / "runs"))
    assert code == 0, err
    assert json.loads(out)["status"] == "ok"
    runs = Runs(tmp_path)
    (id,) = runs.started
    for stage, steps in jsonl_curves(tmp_path / "events.jsonl").items():
        assert runs.curve(id, stage.replace(" ", "_")) == steps
    for name, value in jsonl_rows(tmp_path / "events.jsonl").items():
        assert runs.summary[id][name] == value
