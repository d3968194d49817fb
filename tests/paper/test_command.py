"""``msgm-bench paper msgm`` in front of a person, a pipe and a shell."""

from __future__ import annotations

import json
import shlex

import fake_data
import pytest
from cli_harness import tiny

from msgm_paper import results
from msgm_paper.caveats import objections
from msgm_paper.tables import TITLES, published_values

CLOSE = {"standard": 10.73, "unseen": 11.59}  # table 1


@pytest.fixture
def run_command(bench, monkeypatch, tmp_path):
    """``run_command(*arguments)``: output of a good call in 80 columns, without SHIPPED."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(results, "SHIPPED", tmp_path / "shipped")

    def call(*arguments):
        code, out, err = bench("paper", "msgm", *arguments)
        assert code == 0, err
        return out, err

    return call


def test_nothing_has_been_run(run_command):
    """Without results every table is there, its notes too, and the sum is that of the file."""
    out, err = run_command()
    assert not err
    for number, title in TITLES.items():
        assert f"Table {number} of arXiv:2412.07229: {title}" in " ".join(out.split())
    assert "240 published values: 0 reproduced" in out
    assert "70 not comparable" in " ".join(out.split())
    assert "broken FID" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out


def test_one_table(run_command, make, entry, write):
    """Published and measured side by side, with interval, n, seeds, status and notes."""
    unseen, ort = (entry(2, name, "ur", dataset="mnist") for name in ("unseen", "ort"))
    runs = write(
        *(make(unseen, value, 0.3, seed=i) for i, value in enumerate((4.3, 4.4, 4.5))),
        make(ort, 7.0, 0.4),
    )
    out, _ = run_command("--table", 2, "--runs", runs)
    lines = [line.split() for line in out.splitlines()]
    assert ["unseen", "4.1", "4.4", "10,000", "reproduced"] in [line[:5] for line in lines]
    assert ["[4.2,", "4.6]", "3", "seeds"] in lines
    assert ["ort", "1.2", "7.0", "10,000", "differs"] in [line[-6:-1] for line in lines]
    assert "no MNIST configuration is published" in " ".join(out.split())
    assert "Table 3" not in out
    assert "66 published values: 1 reproduced, 1 differs" in out
    assert max(map(len, out.splitlines())) <= 80


def test_json(run_command, make, entry, write):
    """Every value with its outcome; what is not bounded is null."""
    standard = entry(1, "standard", "nll", "forget")
    out, _ = run_command("--json", "--table", 1, "--runs", write(make(standard, 10.7, None)))
    documents = json.loads(out)
    assert len(documents) == 6
    (actual,) = [d for d in documents if d["measured"]]
    assert actual["status"] == "inconclusive"
    assert actual["measured"] == {
        **{"value": 10.7, "low": None, "high": None, "n": 10_000},
        **{"seeds": [0], "preset": "paper"},
    }
    assert actual["command"] is None
    assert {d["status"] for d in documents} == {"inconclusive", "not comparable", "not yet run"}


@pytest.mark.usefixtures("cache", "fast")
def test_a_real_run(run_command, bench):
    """What a run itself writes is read; its small budget is named and reproduces nothing."""
    code, _, err = bench(*tiny("--preset", "paper", method="unseen"))
    assert code == 0, err
    out, _ = run_command("--json", "--table", 1)
    actual = {d["split"]: d for d in json.loads(out) if d["measured"]}
    assert set(actual) == {"retain", "forget"}
    for document in actual.values():
        assert document["status"] == "not comparable"
        assert document["measured"]["n"] == 32
        (reason,) = document["reasons"]
        assert reason.startswith("options beside the preset: --steps 20 --samples 32 -b depth=1")
        assert "-b width=16" in reason
        assert "-t likelihood.rtol" in reason


def test_several_folders_and_copies(run_command, make, entry, write):
    """``--runs`` may repeat, and a copy of a result counts once."""
    standard = entry(1, "standard", "nll", "forget")
    result, other = make(standard, 10.70, 0.01), make(standard, 10.72, 0.01, seed=1)
    places = (write(result, name="a"), write(result, other, name="b"))
    out, _ = run_command("--json", "--table", 1, "--runs", places[0], "--runs", places[1])
    (actual,) = [d for d in json.loads(out) if d["measured"]]
    assert actual["measured"]["seeds"] == [0, 1]


def test_the_default_folder(run_command, make, entry, write):
    """``runs`` is read where it is there."""
    write(make(entry(1, "standard", "nll", "forget"), 10.73, 0.01))
    out, _ = run_command("--table", 1)
    assert "1 reproduced" in out


def test_broken_files_are_skipped(run_command, make, entry, write):
    """They are named with a reason, and the rest is shown."""
    runs = write(make(entry(1, "standard", "nll", "forget"), 10.73, 0.01))
    for name, content in (("a", b"{"), ("b", b"\xff"), ("c", b'{"status": "ok"}')):
        (runs / name).mkdir()
        (runs / name / "result.json").write_bytes(content)
    out, err = run_command("--table", 1, "--runs", runs)
    assert "1 reproduced" in out
    assert err.count("is no valid result") == 3
    assert "Value error" not in err
    assert "its schema is none, not msgm-bench/result@3: name the result.json" in err


def test_wrong_requests(bench, tmp_path):
    """Folders that are not there and tables that the paper lacks: exit code 2, and what is."""
    code, _, err = bench("paper", "msgm", "--runs", "nowhere", "--runs", tmp_path, "--runs", "no")
    assert code == 2
    assert "no such folder: nowhere, no" in err
    code, _, err = bench("paper", "msgm", "--table", 9)
    assert code == 2
    assert "no table 9" in err
    assert "1, 2, 3, 4, 5, 6, 7" in err
    assert bench("paper", "msgm", "--json", "--commands")[0] == 2
    assert bench("paper", "smgm")[0] == 2


# Commands ---------------------------------------------------------------------------------


def test_commands_are_commands(run_command, bench, specs):
    """The command line takes each."""
    lines = [
        line for line in run_command("--commands")[0].splitlines() if not line.startswith("# ")
    ]
    assert len(set(lines)) == len(lines) == 32
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "msgm-bench"
        code, _, err = bench(*words, "--dry-run")
        assert code == 0, err
    target = {(s.dataset, s.forget, s.backbone, s.method, s.regime) for s in specs}
    assert ("cifar10", ("automobile", "dog"), "ddpm", "obt", "finetune") in target
    assert {s.preset for s in specs} == {"paper"}
    assert {s.params.get("alpha") for s in specs} == {None, 0.7, 0.9}
    assert {s.dataset_params.get("split") for s in specs if s.dataset == "stl10"} == {"paper"}


def test_commands_plan(run_command, bench, cache, monkeypatch, tmp_path):
    """On data that are there the stages are planned for real."""
    fake_data.write_stl10(tmp_path / "data" / "stl10", 60, 60)
    monkeypatch.setenv("MSGM_BENCH_DATA", str(tmp_path / "data"))
    lines = run_command("--commands")[0].splitlines()
    for name in ("gaussians", "stl10"):
        line = next(line for line in lines if f"--dataset {name} " in line)
        code, out, err = bench(*shlex.split(line)[1:], "--dry-run")
        assert code == 0, err
        assert "to do" in out


def test_values_that_no_run_reproduces_are_listed(run_command):
    """Each that is no target stands behind a #, with the reason: a shell passes over them."""
    lines = run_command("--commands")[0].splitlines()
    remarks = [line for line in lines if line.startswith("# ")]
    assert lines[-len(remarks) :] == remarks
    for entry in published_values():
        flaws = objections(entry)
        mentioned = [r for r in remarks if entry.place in r and all(f in r for f in flaws)]
        assert bool(flaws) <= bool(mentioned), entry
    (toy,) = [r for r in remarks if "39.01" in r]
    assert toy.endswith("table 1, gaussians: nll retain; table 1, gaussians: nll forget")


def test_results_in_the_program_are_listed(run_command, make, entry, monkeypatch, tmp_path):
    """Without --runs the committed results are read, and runs/ beside them; else only those."""
    shipped, other = (make(entry(1, n, "nll", "forget"), v, 0.01) for n, v in CLOSE.items())
    monkeypatch.setattr(results, "SHIPPED", tmp_path / "measured")
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "a.json").write_text(shipped.to_json(), encoding="utf-8")
    assert "1 reproduced" in run_command("--table", 1)[0]
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "result.json").write_text(other.to_json(), encoding="utf-8")
    assert "2 reproduced" in run_command("--table", 1)[0]
    assert "1 reproduced" in run_command("--table", 1, "--runs", tmp_path / "runs")[0]


def test_what_ships_is_sound():
    """Each committed file is a valid result of the preset paper, of data that the paper has."""
    actual = results.collect([str(results.SHIPPED)])
    assert not actual.broken
    places = {(entry.dataset, entry.backbone) for entry in published_values()}
    for result in actual.results:
        assert (result.status, result.spec.preset) == ("ok", "paper")
        assert (result.spec.dataset, result.spec.backbone) in places


@pytest.mark.parametrize("named", ["board", "board/results"])
def test_a_boards_results_are_read(run_command, make, entry, tmp_path, named):
    """--runs takes a board's folder, or the folder of its results."""
    folder = tmp_path / "board" / "results"
    folder.mkdir(parents=True)
    for i, (name, value) in enumerate(CLOSE.items()):
        result = make(entry(1, name, "nll", "forget"), value, 0.01)
        (folder / f"m-s{i}.json").write_text(result.to_json(), encoding="utf-8")
    (tmp_path / "board" / "other.json").write_text("{", encoding="utf-8")
    out, err = run_command("--table", 1, "--runs", tmp_path / named)
    assert "2 reproduced" in out
    assert not err


def test_commands_of_finished_runs_are_omitted(run_command, make, entry, write):
    """Decided values need no run; commands write into the folder of the option."""
    here = {
        (c.metric, c.split): c for c in published_values() if (c.table, c.method) == (1, "standard")
    }
    runs = write(*(make(c, c.value, 0.01, seed=i) for i, c in enumerate(here.values())))
    line, remark = run_command("--commands", "--table", 1, "--runs", runs)[0].splitlines()
    assert "--method unseen" in line
    assert remark.startswith("# impossible: no density")
    assert shlex.split(line)[-2:] == ["--out", str(runs)]
