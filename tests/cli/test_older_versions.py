"""Run folders and results of older versions: refused with the command that repeats the run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("cache")
COMMAND = "msgm-bench run --dataset gaussians --forget middle --method obt --seed 3"
GAUSSIANS = ("--dataset", "gaussians", "--forget", "middle")
BOARD = Path(__file__).parents[2] / "leaderboards" / "gaussians-vesde-middle"


@pytest.fixture
def old_run(tmp_path):
    """A run folder of an older version, ``runs/old run``."""
    run = tmp_path / "runs" / "old run"
    (run / "model").mkdir(parents=True)
    (run / "spec.yaml").write_text("dataset: gaussians\n")
    card = {"format": "msgm-bench/model@1", "backbone": "vesde"}
    (run / "model" / "model.json").write_text(json.dumps(card))
    result = {"schema": "msgm-bench/result@1", "provenance": {"command": COMMAND}}
    (run / "result.json").write_text(json.dumps(result))
    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "runs/old run", *GAUSSIANS),
        ("evaluate", "runs/old run/model", *GAUSSIANS),
        ("export", "runs/old run", "exported"),
        (
            "run",
            *GAUSSIANS,
            "--backbone",
            "vesde",
            "--method",
            "finetune",
            "--base",
            "runs/old run",
        ),
    ],
    ids=["evaluate", "evaluate-model", "export", "base"],
)
def test_a_model_of_an_older_version(arguments, old_run, bench, tmp_path):
    """The error has the command with the run's own spec.yaml, quoted for a shell."""
    code, _, err = bench(*arguments)
    assert code in (1, 2)
    assert "repeat the run: msgm-bench run '" in err
    assert "runs/old run/spec.yaml'" in err
    assert "Traceback" not in err
    assert not (tmp_path / "exported").exists()


def test_a_model_without_its_spec(old_run, bench):
    """Without spec.yaml the error says to repeat the command, whatever it was."""
    (old_run / "spec.yaml").unlink()
    code, _, err = bench("evaluate", old_run, *GAUSSIANS)
    assert code == 2
    assert "repeat the command that trained the model" in err


def test_results_of_an_older_version(old_run, bench):
    """``compare`` and ``protocol diff`` print the command of the result."""
    code, _, err = bench("compare", "runs")
    assert code == 2
    reason = f"it was made by another version of msgm-bench: run its command again: {COMMAND}"
    assert f"skipped: runs/old run/result.json: {reason}\n" in err
    result = old_run / "result.json"
    code, _, err = bench("protocol", "diff", result, result)
    assert code == 1
    assert f"run its command again: {COMMAND}\n" in err


@pytest.mark.parametrize("command", [3, None, "x" * 5000, "two\nlines \x1b[31m"])
def test_commands_that_are_none(command, old_run, bench):
    """A command of another type, length or with escapes does no harm to the error."""
    result = {"schema": "msgm-bench/result@1", "provenance": {"command": command}}
    (old_run / "result.json").write_text(json.dumps(result))
    code, _, err = bench("compare", "runs")
    assert code == 2
    assert "run its command again" in err
    assert "\x1b" not in err
    assert max(map(len, err.splitlines())) < 700


def test_a_result_of_an_older_version_on_a_board(old_run, bench, tmp_path):
    """``board check`` names the file and its command."""
    shutil.copytree(BOARD, tmp_path / "board")
    shutil.copy(old_run / "result.json", tmp_path / "board" / "results" / "old.json")
    code, _, err = bench("board", "check", "board")
    assert code == 1
    assert "old.json" in err
    assert f"run its command again: {COMMAND}" in err
