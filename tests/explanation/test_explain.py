"""How a number came about: nothing that a result records is left out, and nothing is made up."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_harness import tiny

from msgm_bench.boards import read
from msgm_bench.errors import StorageError, UnknownNameError, UsageError
from msgm_bench.explanation import explain, read_source
from msgm_bench.explanation.stages import stages_of
from msgm_bench.storage.archives import pack_files

BOARDS = Path(__file__).parents[2] / "leaderboards"
FIRST = sorted(min(folder.glob("results/*.json")) for folder in BOARDS.iterdir() if folder.is_dir())


def text_of(explanation):
    """All facts of all steps."""
    steps = [*explanation.steps]
    steps += [step for part in explanation.measurements for step in part.steps]
    return "\n".join(f"{step.summary}\n{step.facts}" for step in steps)


@pytest.mark.parametrize("path", FIRST, ids=lambda path: path.parent.parent.name)
def test_results_of_boards_are_explained_wholly(path):
    """Every row stands in one measurement, and every stage, code digest and hash in a step."""
    result = read(path)
    explanation = explain(result)
    rows = [row.key for part in explanation.measurements for row in part.rows]
    assert sorted(rows) == sorted(row.key for row in result.metrics)
    text = text_of(explanation)
    for key in result.provenance["stages"].values():
        assert key[:12] in text
    for row in result.metrics:
        assert result.protocols[row.protocol].hash in text
    assert explanation.command == result.provenance["command"]


@pytest.mark.parametrize("path", FIRST, ids=lambda path: path.parent.parent.name)
def test_one_metric(path):
    """The rows of that name and no others, in any case of letters."""
    result = read(path)
    for name in {row.metric for row in result.metrics}:
        rows = [row for part in explain(result, name.upper()).measurements for row in part.rows]
        assert {row.key for row in rows} == {r.key for r in result.metrics if r.metric == name}


def test_steps_state_what_the_result_states(make):
    """Options, seeds, budget, cost and the judge's quality are those of the result."""
    explanation = explain(make(), "share")
    titles = [step.title for step in explanation.steps]
    assert titles == ["Data", "Base model", "Method"]
    (measurement,) = explanation.measurements
    assert [step.title for step in measurement.steps] == ["Artifact", "Judge", "Metric"]
    text = text_of(explanation)
    for part in (
        "strength = 0.5",
        "100 steps, batches of 16, learning rate 0.001, seed 4",
        "100 passes in 1.5 s",
        "sampling seed 5",
        "nfe = 32",
        "accuracy 95 % of 40 held-out items",
        "90 %: rows that rest on a judge below it are stamped",
        "no installed metric has this protocol",
        "ffffffffffff",
    ):
        assert part in text, part


def test_metrics_without_a_judge(make):
    """What no judge had a say in has no step of one."""
    (measurement,) = explain(make(), "cost").measurements
    assert [step.title for step in measurement.steps] == ["Artifact", "Metric"]


def test_unknown_metrics(make):
    """The nearest name is suggested, and all names are listed."""
    with pytest.raises(UnknownNameError, match="did you mean 'share'") as error:
        explain(make(), "shar")
    assert error.value.allowed == "cost, share"


def test_runs_without_values(make):
    """A failed run is refused with its own reason."""
    failed = make().model_copy(
        update={"status": "failed", "reason": "out of memory", "metrics": []}
    )
    with pytest.raises(UsageError, match="failed and has no values: out of memory"):
        explain(failed)


def test_a_real_run(bench, cache, fast):
    """Its stages have their folders in the cache, and the formula, source and command are there."""
    code, _, err = bench(*tiny("--regime", "finetune"))
    assert code == 0, err
    (path,) = Path("runs").glob("*/result.json")
    result = read(path)
    stages = stages_of(result)
    assert set(stages) == set(result.provenance["stages"])
    for stage in stages.values():
        assert stage.folder == cache / "done" / stage.key
        assert (stage.folder / "stage.json").is_file()
    assert "20, batches of 512" in text_of(explain(result, "nll"))
    assert "in this cache" in text_of(explain(result, "nll", cache / "other"))
    assert not (cache / "other").exists()
    code, out, err = bench("explain", path.parent, "ur")
    assert (code, err) == (0, "")
    text = " ".join(out.split())
    assert "Share of samples that the judge recognises and assigns to D_f" in text
    assert "arXiv:2412.07229" in text
    assert "as installed here" in text
    assert result.provenance["command"] in out


@pytest.mark.parametrize("key", ["../../outside", "/etc", "A" * 64, "1" * 63, ""])
def test_keys_that_are_none(make, key, tmp_path):
    """What is no SHA-256 never becomes a part of a path."""
    result = make({"provenance:stages": {"base": key, "measure": "5" * 64}})
    assert set(stages_of(result, tmp_path)) == {"measure"}


def test_free_parts_of_a_provenance(make):
    """Shapes that nobody promised are passed over."""
    result = make(
        {
            "provenance:seconds": [1],
            "provenance:passes": {"base": "many"},
            "provenance:hardware": None,
            "provenance:command": 7,
            "provenance:judge": {"accuracy": "good"},
        }
    )
    explanation = explain(result)
    assert explanation.command == ""
    assert "s, not in" not in text_of(explanation)


# Sources -----------------------------------------------------------------------------------


def test_sources(make, write, tmp_path):
    """A run folder and its file are one result."""
    result, folder = make(), write(make())
    for path in (folder, folder / "result.json"):
        source = read_source(path)
        assert (source.result, source.is_submission) == (result, False)


def test_sources_that_are_none(make, write, forge, tmp_path):
    """An empty folder, a board, an edited file, an archive of something else: the reason."""
    with pytest.raises(UsageError, match="holds no result"):
        read_source(tmp_path)
    (tmp_path / "board.yaml").write_text("title: x", encoding="utf-8")
    with pytest.raises(UsageError) as error:
        read_source(tmp_path)
    assert "results/" in error.value.hint
    edited = tmp_path / "edited.json"
    edited.write_text(forge(make(), seed=9), encoding="utf-8")
    with pytest.raises(StorageError, match="it was edited"):
        read_source(edited)
    archive = tmp_path / "x.zip"
    archive.write_bytes(pack_files({"a.json": b"{}"}))
    with pytest.raises(Exception, match=r"no manifest\.json"):
        read_source(archive)


@pytest.mark.parametrize("text", ["hello", "", "[1]", '{"schema": "x@1"}', "a: 1"])
def test_files_that_are_no_results(text, tmp_path):
    """Whatever they hold, the error says which files and folders are allowed."""
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(StorageError, match=r"notes\.txt is no") as error:
        read_source(path)
    assert error.value.allowed == (
        "a run folder, a result.json, a file of a board's results, an archive of a submission"
    )


# The command -------------------------------------------------------------------------------


def test_command(make, write, bench, monkeypatch):
    """Overview and steps fit 80 columns, but for the command that is to be copied."""
    monkeypatch.setenv("COLUMNS", "80")
    folder = write(make())
    for metric in ((), ("share",)):
        code, out, err = bench("explain", folder, *metric)
        assert (code, err) == (0, "")
        head, _, command = out.partition("The command that repeats all of it")
        assert make().provenance["command"] in command
        lines = head.splitlines()[1:]
        assert max(map(len, lines)) <= 80
    assert "10 %, 95 % interval 9 to 11, n = 100, lower is better" in out


def test_rows_that_differ_by_protocol_alone(with_fid, write, bench, monkeypatch):
    """The protocol stands below such rows and below no others; a value that is missing says why."""
    monkeypatch.setenv("COLUMNS", "80")
    reason = "its weights are not on this machine: " + "put them there, " * 20
    code, out, err = bench("explain", write(with_fid(reason)))
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    place = lines.index(["draw", "fid", "samples", "none", "100"])
    assert lines[place + 1 : place + 4] == [["fid/"], ["inception-2015/"], ["drawing"]]
    judged = ["draw", "fid", "samples", "2.215", "2.115", "to", "2.315", "100"]
    assert lines[place + 4 : place + 6] == [judged, ["fid/judge/"]]
    assert "cost/mean" not in out
    note = out.partition("No value:\n")[2].splitlines()
    assert note[0].startswith("   draw fid samples           its weights are not on this")
    assert note[1].startswith("   fid/inception-2015/drawing ")
    text, _, _ = " ".join(out.split()).partition("explain RUN METRIC")
    assert "…" in text
    assert text.count("put them there") < 10
    assert max(map(len, out.partition("The command")[0].splitlines()[1:])) <= 80


def test_values_that_are_all_there(make, write, bench):
    """No note and no protocol."""
    _, out, _ = bench("explain", write(make()))
    assert "No value" not in out
    assert "share/judge" not in out


def test_missing_values_of_one_reason(make, write, bench):
    """The reason stands once, beside all of them."""
    code, out, _ = bench("explain", write(make(share=(None, None), cost=(None, None))))
    assert code == 0
    assert out.count("it diverged") == 1
    note = out.partition("No value:\n")[2].splitlines()
    assert note[0].split() == ["draw", "share", "samples", "it", "diverged"]
    assert note[1].split() == ["estimate", "cost", "retain"]


def test_a_metric_that_is_none(make, write, bench):
    """Exit code 2, and the nearest name."""
    code, _, err = bench("explain", write(make()), "shares")
    assert code == 2
    assert "did you mean 'share'" in err


def test_hostile_words(make, write, bench):
    """Markup and escapes of a stranger's result are text."""
    words = {"spec:forget": ["[bold]b", "\x1b[31mred"], "provenance:command": "x\x1b[2J\ny"}
    code, out, err = bench("explain", write(make(words)), "share")
    assert (code, err) == (0, "")
    assert "[bold]b" in out
    assert "\x1b" not in out
