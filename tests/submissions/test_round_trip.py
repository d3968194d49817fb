"""A tiny run from its folder to a board: packed, checked, added, and run again."""

from __future__ import annotations

import json
import os
import re

import pytest
import yaml
from cli_harness import only, tiny

from msgm_bench.boards.trust import read_trust
from msgm_bench.cache.cache import Cache
from msgm_bench.errors import RefusedError, StorageError, UsageError
from msgm_bench.submissions import check, make, pack, unpack

RUN = {"dataset": "gaussians", "forget": ["middle"], "backbone": "vesde", "preset": "quick"}
BOARD = {
    "title": "Tiny",
    "summary": "A board for tests.",
    "run": RUN,
    "methods": ["standard", "unseen", "obt"],
    "seeds": 1,
    "columns": [{"metric": "ur", "split": "samples"}, {"metric": "nll", "split": "retain"}],
    "rank": {"metric": "ur", "split": "samples"},
    "gate": {"reference": "unseen", "limits": [{"metric": "nll", "split": "retain", "within": 9}]},
    "baseline": {
        "method": "standard",
        "bands": [{"metric": "ur", "split": "samples", "low": 0, "high": 100}],
    },
    "commands": ["msgm-bench run"],
}


@pytest.fixture
def run(bench, fast, tmp_path):
    """The folder of a tiny run."""
    assert bench(*tiny())[0] == 0
    (folder,) = (tmp_path / "runs").iterdir()
    return folder


def board(folder, **changes):
    """A board in a folder."""
    folder.mkdir()
    content = BOARD | {"run": RUN | changes}
    (folder / "board.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


def test_a_run_is_submitted_recomputed_and_run_again(run, bench, tmp_path):
    """Every row follows from the archive, whose bytes are one; the page says how far it is so."""
    place = board(tmp_path / "board")
    code, out, _ = bench("submit", run, "--board", place, "--out", "a.zip")
    assert code == 0
    assert re.search(r"recomputed: obt seed 0 on gaussians; (\d+) of \1 rows", out), out
    bench("submit", run, "--board", place, "--out", "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()

    code, out, _ = bench("submission", "check", "a.zip", "--board", place)
    assert (code, out.startswith("a.zip: recomputed: ")) == (0, True)
    code, out, _ = bench("board", "add", place, "a.zip")
    assert (code, "added: " in out) == (0, True)
    assert "| recomputed |" in (place / "README.md").read_text("utf-8")
    assert bench("board", "check", place)[0] == 0
    done = Cache().root / "done"
    before = {path.name for path in done.iterdir()}
    assert json.loads((place / "results" / "obt-s0.json").read_text()) == only(run)

    code, out, _ = bench("board", "verify", place, "obt", "--seed", 0, "--out", "again")
    assert {path.name for path in done.iterdir()} == before
    fresh = {path.name for path in (tmp_path / "again" / "verify-cache" / "done").iterdir()}
    assert fresh == set(only(run)["provenance"]["stages"].values())
    assert (code, out.count("agrees"), "obt seed 0: re-run" in out) == (0, 2, True)
    assert "| re-run |" in (place / "README.md").read_text("utf-8")
    assert read_trust(place)["obt-s0"].submission is not None

    other = board(tmp_path / "other", preset="full")
    code, out, _ = bench("submission", "check", "a.zip", "--board", other)
    assert code == 1
    assert "refused: it does not belong to this board: its preset is quick" in out


def test_a_value_that_a_new_run_does_not_give_stays_claimed(run, bench, tmp_path):
    """``verify`` runs the row's own command, names what differs, and raises no level."""
    place = board(tmp_path / "board")
    bench("board", "build", place, "--runs", run.parent)
    assert read_trust(place)["obt-s0"].level == "re-run"
    path = place / "results" / "obt-s0.json"
    content = json.loads(path.read_text())
    for row in content["metrics"]:
        if (row["metric"], row["split"]) in (("nll", "retain"), ("nll_finite_mean", "retain")):
            row.update({name: row[name] - 5 for name in ("value", "low", "high")})
        if (row["metric"], row["split"]) == ("nll_nats", "retain"):
            row.update(value=None, low=None, high=None, reason="lost")
    del content["digest"]
    fields = {name: value for name, value in content.items() if name != "schema"}
    path.write_text(type(make(run).result)(**fields).to_json())

    bench("board", "build", place)
    assert "| claimed |" in (place / "README.md").read_text("utf-8")
    code, out, _ = bench("board", "verify", place, "obt", "--cached")
    assert (code, out.count("differs"), "obt seed 0: does not agree" in out) == (1, 1, True)
    assert "| claimed |" in (place / "README.md").read_text("utf-8")


def test_a_command_with_a_task_that_its_run_skipped_is_run_again(
    run, bench, monkeypatch, new_registry, tmp_path
):
    """A grid's command may name what another method did: ``verify`` takes it as it is."""
    plugins = f"{os.environ['MSGM_BENCH_PLUGINS']},tasks.quantised_generation"
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", plugins)
    new_registry.cache_clear()
    content = only(run)
    content["provenance"]["command"] += " --task quantised_class_generation"
    (run / "result.json").write_text(json.dumps(content))
    place = board(tmp_path / "board")
    bench("board", "build", place, "--runs", run.parent)
    code, out, err = bench("board", "verify", place, "obt", "--cached")
    assert (code, out.count("agrees")) == (0, 2), err


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("rm -rf /", "`msgm-bench run` with the options of one run"),
        ("msgm-bench run /etc/passwd", "spec_file"),
        ("msgm-bench run --executor local", "executor"),
        ("msgm-bench run --method obt --method ort", "missing"),
        ("msgm-bench run --help", "cannot be run again"),
        ("msgm-bench evaluate runs/x", "msgm-bench evaluate"),
        ("msgm-bench run 'unclosed", "No closing quotation"),
        (None, "cannot be run again"),
    ],
)
def test_a_recorded_command_is_options_and_nothing_else(command, reason):
    """No other program, file or worker is reached by the command of a stranger's result."""
    from msgm_bench.cli.recorded_command import spec_of_command

    with pytest.raises(RefusedError, match="cannot be run again") as refused:
        spec_of_command(command)
    assert reason in str(refused.value)


def test_evidence_that_does_not_fit_is_left_out(run):
    """The largest goes first, its rows stay claimed with a note; the result itself must fit."""
    whole = make(run)
    limit = len(pack(whole)) - 1_000
    parts = check(unpack(pack(make(run, limit=limit)), "x.zip"))
    assert [note for note in parts.notes if "ur on generation was too large" in note]
    assert {row.metric for row in parts.claimed} >= {"ur", "unrecognisable"}
    assert parts.level() == "claimed"
    with pytest.raises(StorageError, match="without any evidence"):
        make(run, limit=9_000)


def test_a_run_that_this_machine_cannot_answer_for_is_not_packed(run, tmp_path, monkeypatch):
    """Other code, or stages that are gone: the command that repeats the run is named."""
    monkeypatch.setenv("MSGM_BENCH_CACHE", str(tmp_path / "empty"))
    with pytest.raises(StorageError, match=r"lacks .*model") as gone:
        make(run)
    assert "repeat the run: msgm-bench run" in gone.value.hint
    path = run / "result.json"
    content = json.loads(path.read_text())
    content["provenance"]["stages"]["measure"] = "0" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="made by other code, data or settings"):
        make(run)
