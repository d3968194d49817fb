"""The table of scalars and results."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from cli_harness import tiny
from lives import VALUES, Life, curve, jsonl_curves, jsonl_rows

from msgm_bench import StorageError
from msgm_bench.testing import check_tracker
from msgm_builtin.trackers.append import append
from msgm_builtin.trackers.csv import CsvTable

WORKER = ("--executor", "local", "-x", "local.workers=1")


@pytest.fixture
def path(tmp_path):
    """The table's file."""
    return tmp_path / "tables" / "values.csv"


@pytest.fixture
def live(path, tmp_path):
    """``live(name)`` begins a process with a run."""
    return lambda name="run": Life(CsvTable.create({"path": str(path)}), tmp_path / "runs" / name)


def losses(path, stage="train obt"):
    """Losses by step, of each key of a stage; an error where a step has two rows."""
    table = pd.read_csv(path)
    rows = table[(table["stage"] == stage) & (table["name"] == "loss")]
    assert not rows.duplicated(["run", "key", "step"]).any()
    return {key: dict(zip(g["step"], g["value"], strict=True)) for key, g in rows.groupby("key")}


def test_it_conforms():
    """Whole lives of runs."""
    check_tracker(CsvTable)


def test_a_resumed_run_goes_on(path, live):
    """Steps behind the checkpoint that were logged before a kill have one row each."""
    live().train(0, 11)
    live().train(6, 20).end()
    assert losses(path) == {"a1": curve(0, 20)}


def test_another_training_has_another_key(path, live):
    """Other code or options of a stage: its rows stand beside the older ones."""
    live().train(0, 20).end()
    live().train(0, 8, key="b2")
    assert losses(path) == {"a1": curve(0, 20), "b2": curve(0, 8)}


def test_results_stand_once(path, live):
    """A run that is answered again adds nothing; every value has its ends beside it."""
    live().train(0, 4).end()
    live().end()
    table = pd.read_csv(path)
    rows = table[table["stage"] == "result"]
    assert dict(zip(rows["name"], rows["value"], strict=True)) == VALUES
    assert rows["step"].isna().all()


def test_two_runs_in_one_process(path, live, tmp_path):
    """Rows of each stand under its folder."""
    first = live("one").train(0, 4)
    first.hook.run_started(spec={}, folder=str(tmp_path / "two"))
    first.train(0, 2, key="c3")
    table = pd.read_csv(path)
    counts = table[table["name"] == "loss"].groupby("run").size()
    assert dict(counts) == {str(tmp_path / "runs" / "one"): 2, str(tmp_path / "two"): 1}


def test_a_line_that_was_cut_short(path, live):
    """A full disk left half a line: it stays alone, and the table is read past it."""
    live().train(0, 4)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    live().train(0, 6)
    lines = path.read_text("utf-8").splitlines()
    assert lines[: len(whole.splitlines())] == [
        *whole.decode().splitlines()[:-1],
        whole[:-9].decode().splitlines()[-1],
    ]
    table = pd.read_csv(path, on_bad_lines="skip")
    assert set(table[table["name"] == "loss"]["step"]) == {2, 4, 6}


def test_another_table_is_refused(path):
    """A file with other columns is not written to."""
    path.parent.mkdir()
    path.write_text("epoch,loss\n1,2\n", encoding="utf-8")
    with pytest.raises(StorageError, match="is another table"):
        CsvTable.create({"path": str(path)})


def test_writers_take_turns(tmp_path):
    """One header, and no line in another one."""
    path = tmp_path / "table.csv"

    def write(name):
        for number in range(50):
            append(path, f"{name},{number}\n" * 20, "csv", "name,number\n")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, "abc"))
    lines = path.read_text("utf-8").splitlines()
    assert lines[0] == "name,number"
    expected = {f"{name},{number}": 20 for name in "abc" for number in range(50)}
    assert {line: lines[1:].count(line) for line in set(lines[1:])} == expected


@pytest.mark.parametrize("place", [(), pytest.param(WORKER, marks=pytest.mark.slow)])
def test_it_has_what_jsonl_has(place, fast, cache, bench, tmp_path):
    """Of a run here or in a worker: every loss by stage and step, and every value."""
    trackers = ("--track", "csv", "--track", "jsonl")
    code, _, err = bench(*tiny(*place, *trackers, out=tmp_path / "runs"))
    assert code == 0, err
    curves = jsonl_curves(tmp_path / "events.jsonl")
    assert "train obt" in curves
    for stage, steps in curves.items():
        assert list(losses(tmp_path / "values.csv", stage).values()) == [steps]
    table = pd.read_csv(tmp_path / "values.csv").query("stage == 'result'")
    values = dict(zip(table["name"], table["value"], strict=True))
    assert {name: values[name] for name in jsonl_rows(tmp_path / "events.jsonl")} == jsonl_rows(
        tmp_path / "events.jsonl"
    )
