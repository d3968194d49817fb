"""Benchmarks run in their smallest sizes, and print what they measured and on what."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
ROWS = {
    "training_step": 2,
    "likelihood_time": 1,
    "sampling_time": 2,
    "frechet_time": 1,
    "grid_time": 1,
}
ROW = re.compile(r"^(.{56}) *([\d.]+) +([\d.]+) +([\d.]+)  ([\d.]+) to ([\d.]+)$", re.MULTILINE)


# of diffusers and of pytorch-fid, which call numpy and scipy as they were
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning"),
]


@pytest.fixture
def script(monkeypatch):
    """A benchmark by its name."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module


@pytest.mark.parametrize("name", ROWS)
def test_benchmarks_run(name, script, capsys, cache, fast):
    """Hardware above the table, and in each row the ratio of its one pair."""
    state = torch.get_rng_state()
    script(name).main(["--smoke"])
    torch.set_rng_state(state)
    out = capsys.readouterr().out
    assert re.match(rf".*, \d+ cores, \d+ threads, fp32, torch {re.escape(torch.__version__)}", out)
    rows = [[float(number) for number in row[1:]] for row in ROW.findall(out)]
    assert len(rows) == ROWS[name]
    for a, b, ratio, low, high in rows:
        assert low == ratio == high
        assert ratio == pytest.approx(a / b, abs=0.005 + 0.0006 * (1 + a / b) / b)  # rounded


def test_the_two_frechet_distances_agree(script, capsys):
    """Ours is pytorch-fid's to rounding."""
    script("frechet_time").main(["--smoke"])
    (difference,) = re.findall(r"relative difference (\S+)", capsys.readouterr().out)
    assert float(difference) < 1e-9


def test_a_folder_that_is_no_checkout(script, tmp_path):
    """The file that is missing is named, before anything is measured."""
    for name, option, missing in (
        ("likelihood_time", "--score-sde", "losses.py"),
        ("frechet_time", "--pytorch-fid", "fid_score.py"),
    ):
        with pytest.raises(SystemExit, match=f"no {missing}"):
            script(name).main(["--smoke", option, str(tmp_path)])


def test_pairs_are_measured_in_turn(script, capsys):
    """A B A B, after one warm-up of each; the ratio is the median of the pairs' ratios."""
    pairs, calls = script("pairs"), []
    seconds = {"a": iter([9.0, 1.0, 4.0, 6.0]), "b": iter([9.0, 1.0, 2.0, 2.0])}

    def work(name):
        return lambda: calls.append(name) or pairs.Stopped(next(seconds[name]))

    meter = pairs.Bench(pairs.Runtime.select("cpu"), 3, smoke=False)
    assert meter.row("x", work("a"), work("b"), units=2) == (2.0, 1.0)
    assert calls == ["a", "b"] * 4
    assert ROW.findall(capsys.readouterr().out)[0][3:] == ("2.00", "1.00", "3.00")


def test_a_grid_pays_for_a_stage_once(script, capsys):
    """A stage of two results counts once in a grid, and twice apart; the rest as often as it is."""

    def result(**stages):
        names = {name: f"key-{name}" for name in stages}
        return SimpleNamespace(provenance={"stages": names, "seconds": stages})

    both = [result(base=60.0, a=5.0), result(base=60.0, b=15.0)]
    assert script("grid_time").shared(both) == "2 runs: 80 s in one grid, 140 s apart, 0.57 of it"
    board = SCRIPTS.parent / "leaderboards" / "digits-vesde-3-7"
    with pytest.raises(SystemExit, match="has no results of nothing"):
        script("grid_time").main(["--board", str(board), "--methods", "nothing"])
    script("grid_time").main(["--board", str(board), "--methods", "ort,obt,erasediff,salun"])
    assert re.match(r"12 runs: \d+ s in one grid", capsys.readouterr().out)
