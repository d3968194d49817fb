"""What each command prints, writes and returns."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess

import jsonschema
import pytest
import yaml
from cli_harness import only, results, tiny
from PIL import Image

from msgm_bench import __version__
from msgm_bench.cli import run_and_show
from msgm_bench.cli.main import COMMANDS, call
from msgm_bench.cli.tables import console
from msgm_bench.experiment.skipped import Skipped
from msgm_bench.runner import Preview


@pytest.fixture(scope="module")
def bench_once(tmp_path_factory):
    """A folder with a cache and the runs of two methods and two seeds."""
    place = tmp_path_factory.mktemp("commands")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSGM_BENCH_CACHE", str(place / "cache"))
        methods = ("standard", "obt")
        assert call(tiny("--seed", 0, "--seed", 1, method=methods, out=place / "runs")) == 0
    return place


@pytest.fixture
def runs(bench_once, monkeypatch):
    """The folder of runs, with the cache that they came from."""
    monkeypatch.setenv("MSGM_BENCH_CACHE", str(bench_once / "cache"))
    return bench_once / "runs"


@pytest.fixture(autouse=True)
def _a_new_console():
    """Each test has its own standard output."""
    console.cache_clear()


# Help --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, bench):
    """``-h`` answers with the command's own words."""
    for flag in ("-h", "--help"):
        code, out, _ = bench(name, flag)
        assert code == 0
        assert f"msgm-bench {name}" in out
        assert len(out.splitlines()) > 5


@pytest.mark.parametrize("name", ["board build", "board check", "cache ls", "protocol diff"])
def test_every_subcommand_has_help(name, bench):
    """``-h`` answers below the groups, too."""
    code, out, _ = bench(*name.split(), "-h")
    assert code == 0
    assert f"msgm-bench {name}" in out


def test_help_and_version(bench):
    """The table of commands, and the version."""
    code, out, _ = bench("--help")
    assert code == 0
    assert all(name in out for name in COMMANDS)
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = bench("--version")
    assert (code, out.strip()) == (0, f"msgm-bench, version {__version__}")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell, bench, monkeypatch):
    """The script names the command, and is syntax where the shell is there to say so."""
    code, out, _ = bench("completion", shell)
    assert code == 0
    assert "_MSGM_BENCH_COMPLETE" in out
    program = shutil.which(shell)
    if program and shell != "fish":
        subprocess.run([program, "-n"], input=out, text=True, check=True)


# Run ---------------------------------------------------------------------------------------


def test_table(runs, bench):
    """80 columns, every method ranked, where the results are."""
    code, out, err = bench(*tiny("--seed", 0, "--seed", 1, method=("standard", "obt"), out=runs))
    assert code == 0
    places = [line for line in out.splitlines() if str(runs) in line]
    assert [line.rpartition(".")[2] for line in places] == ["json"] * 4 + ["png"] * 2
    rest = [line for line in out.splitlines() if str(runs) not in line]
    assert max(map(len, rest)) <= 80
    text = "\n".join(rest)
    assert re.search(r"\bstandard\b", text)
    assert re.search(r"\bobt\b", text)
    assert "gaussians, forget middle, vesde" in text
    assert "[1/4] standard on gaussians, vesde, seed 0" in err
    assert "train obt: cached" in err


def test_methods_stand_side_by_side(runs, bench, tmp_path):
    """A grid leaves a figure for each seed; ``compare --figure`` draws it again, elsewhere."""
    left = sorted(path.name for path in runs.glob("*.png"))
    assert left == [f"comparison-gaussians-middle-vesde-s{seed}.png" for seed in (0, 1)]
    one = [path for path in runs.glob("*/") if "-s0-" in path.name]
    code, _, err = bench("compare", *one, "--figure", "mine.png")
    assert code == 0
    assert "Side by side: mine.png" in err
    assert Image.open("mine.png").size == Image.open(runs / left[0]).size
    code, _, err = bench("compare", one[0], "--figure", "mine.png")
    assert code == 2
    assert "no two of the runs can be drawn side by side" in err
    code, _, err = bench("compare", *one, "--figure", "mine.jpg")
    assert code == 2
    assert "ends in .png" in err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]


def test_json(runs, bench):
    """Standard output is JSON and nothing else: one object, or a list of a grid."""
    code, out, _ = bench(*tiny("--json", out=runs))
    assert code == 0
    one = json.loads(out)
    assert one == results(runs)["obt", 0]
    code, out, _ = bench(*tiny("--json", "--seed", 0, "--seed", 1, out=runs))
    assert [result["spec"]["seed"] for result in json.loads(out)] == [0, 1]


def test_json_of_a_failure(probe, fast, cache, bench):
    """A failed run is a JSON document with its reason, too, and exit 1."""
    code, out, _ = bench(*tiny("--json", method="explosive"))
    assert code == 1
    document = json.loads(out)
    assert document["status"] == "failed"
    assert "diverged" in document["reason"]


def test_dry_run_keeps_addresses_whole(bench, monkeypatch):
    """Each missing part is one line, so that an address can be copied."""
    reason = "no weights: https://example.org/" + "a/b-" * 40 + "weights.pth [bold] into a folder"
    preview = Preview([], [], [Skipped("metrics", "fid-inception", reason)])
    monkeypatch.setattr(run_and_show, "dry_run_grid", lambda specs, **options: [preview])
    code, out, _ = bench(*tiny("--dry-run"))
    assert code == 0
    assert f"without a value: fid-inception: {reason}" in out.splitlines()


def test_dry_run(cache, fast, bench, tmp_path):
    """Every stage once, with its state; nothing is computed."""
    arguments = tiny("--regime", "finetune", method=("obt", "finetune"), out=tmp_path / "runs")
    code, out, _ = bench(*arguments, "--dry-run")
    assert code == 0
    assert "2 runs" in out
    assert out.count("to do") == 10  # judge and base are shared; model, two artifacts, rows
    assert out.count("train standard") == 1
    assert "cached" not in out
    assert not (tmp_path / "runs").exists()
    assert not list(cache.glob("done/*"))
    assert bench(*tiny(method="standard", out=tmp_path / "runs"))[0] == 0
    _, out, _ = bench(*arguments, "--dry-run")
    lines = {line.split("  ")[0].strip(): line for line in out.splitlines()}
    assert "cached" in lines["train standard"]
    assert "cached" in lines["fit judge bayes"]
    assert "to do" in lines["train obt"]


def test_options_of_methods(cache, fast, bench, tmp_path):
    """``-p key`` reaches who has it, ``-p METHOD.key`` one, which wins over the other."""
    methods = ("obt", "ort", "standard")
    arguments = (
        "-p",
        "alpha=0.7",
        "-p",
        "ort.alpha=0.6",
        "-p",
        "forget_interval=2",
        "-p",
        "hinge=null",
    )
    out = tmp_path / "runs"
    assert bench(*tiny(*arguments, method=methods, out=out))[0] == 0
    params = {method: result["spec"]["params"] for (method, _), result in results(out).items()}
    assert (params["obt"]["alpha"], params["obt"]["forget_interval"], params["obt"]["hinge"]) == (
        0.7,
        2,
        None,
    )
    assert (params["ort"]["alpha"], params["ort"]["forget_interval"]) == (0.6, 2)
    assert params["standard"] == {}


def test_run_spec_file(runs, bench):
    """``run spec.yaml`` repeats into the same folder, and changes nothing in it."""
    for folder in sorted(runs.glob("*/")):
        before = (folder / "result.json").stat().st_mtime_ns
        assert bench("run", folder / "spec.yaml", "--out", runs)[0] == 0
        assert (folder / "result.json").stat().st_mtime_ns == before
    assert len(list(runs.glob("*/"))) == 4


def test_spec_file_from_scratch(cache, fast, bench, tmp_path):
    """In another place with an empty cache, spec.yaml leads to equal rows."""
    arguments = ("-p", "alpha=0.55", "-p", "hinge=null", "--train-seed", 4, "--preset", "quick")
    assert bench(*tiny(*arguments, out=tmp_path / "a"))[0] == 0
    (spec,) = (tmp_path / "a").rglob("spec.yaml")
    shutil.rmtree(cache)
    assert bench("run", spec, "--out", tmp_path / "b")[0] == 0
    assert only(tmp_path / "a")["metrics"] == only(tmp_path / "b")["metrics"]
    names = [path.name for place in ("a", "b") for path in (tmp_path / place).iterdir()]
    assert names[0] == names[1]


def test_names_of_classes(cache, fast, bench, tmp_path):
    """Case and numbers do not matter to what is forgotten."""
    for name in ("Middle", "1", "MIDDLE,middle"):
        assert bench(*tiny("--forget", name, out=tmp_path / "runs"))[0] == 0
    rows = [
        json.loads(path.read_text())["metrics"] for path in (tmp_path / "runs").rglob("result.json")
    ]
    assert rows[0] == rows[1] == rows[2]
    assert len([1 for path in cache.glob("done/*") if (path / "weights.safetensors").exists()]) == 1


# Evaluate ----------------------------------------------------------------------------------


def test_evaluate_gives_the_rows_of_the_run(runs, bench, tmp_path):
    """A run's own model, scored as one from elsewhere: equal generation and likelihood."""
    (folder,) = runs.glob("*-obt-s0-*")
    data = ("-d", "train_size=500", "-d", "test_size=500", "--samples", "32")
    loose = ("-t", "likelihood.rtol=1e-2", "-t", "likelihood.atol=1e-2")
    named = ("--dataset", "gaussians", "--forget", "middle")
    shutil.copytree(folder / "model", tmp_path / "elsewhere")
    code, out, err = bench("evaluate", "elsewhere", *named, *data, *loose, "--out", "scored")
    assert code == 0, err
    assert "external" in out
    scored = only(tmp_path / "scored")
    assert scored["metrics"] == json.loads((folder / "result.json").read_text())["metrics"]
    assert (scored["spec"]["method"], scored["spec"]["regime"]) == ("external", "external")
    assert not list((tmp_path / "scored").rglob("train.jsonl"))
    (spec,) = (tmp_path / "scored").rglob("spec.yaml")
    assert bench("run", spec, "--out", "scored")[0] == 0
    assert len(list((tmp_path / "scored").iterdir())) == 1
    command_line = scored["provenance"]["command"].split()[1:]
    assert command_line[0] == "evaluate"
    assert bench(*command_line, "--out", "scored")[0] == 0
    assert len(list((tmp_path / "scored").iterdir())) == 1


def test_evaluate_dry_run(runs, bench, tmp_path):
    """It names the stage that takes the model in."""
    (folder,) = runs.glob("*-obt-s0-*")
    named = ("--dataset", "gaussians", "--forget", "middle", "-d", "train_size=500")
    code, out, _ = bench("evaluate", folder / "model", *named, "--dry-run")
    assert code == 0
    assert "take the model" in out
    assert not (tmp_path / "runs").exists()


# Compare, list, info -----------------------------------------------------------------------


def test_compare(runs, bench):
    """Folders of runs, run folders and files; one row a method, with its seeds."""
    code, out, _ = bench("compare", runs)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "standard" in out
    files = sorted(runs.rglob("result.json"))
    assert bench("compare", *files)[1] == out
    assert bench("compare", *[file.parent for file in files], files[0])[1] == out
    code, out, _ = bench("compare", runs, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["method"] for row in rows} == {"standard", "obt"}
    assert {row["seeds"] for row in rows} == {"0,1"}


def test_compare_with_failures(probe, fast, cache, bench, tmp_path):
    """A failed result is printed and skipped; with nothing else there is nothing to compare."""
    out = tmp_path / "runs"
    bench(*tiny(method=("explosive", "obt"), out=out))
    code, stdout, err = bench("compare", out)
    assert code == 0
    assert "explosive: failed: training diverged" in err
    assert "obt" in stdout
    (folder,) = out.glob("*explosive*")
    code, _, err = bench("compare", folder)
    assert code == 2
    assert "none of the results is a successful one" in err


def test_compare_damaged(tmp_path, bench):
    """A result that is none ends with an error that names the file."""
    (tmp_path / "result.json").write_text('{"schema": "msgm-bench/result@3"}')
    code, _, err = bench("compare", tmp_path)
    assert code in (1, 2)
    assert "result.json" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("kind", [None, "methods", "datasets", "tracker"])
def test_list(kind, bench):
    """Names, summaries and owners, as a table and as JSON; a kind in singular or plural."""
    arguments = [] if kind is None else [kind]
    code, out, _ = bench("list", *arguments)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    code, text, _ = bench("list", *arguments, "--json")
    assert code == 0
    plugins = json.loads(text)
    names = {"methods", "backbones"} if kind is None else {f"{kind.removesuffix('s')}s"}
    assert names <= set(plugins)
    assert kind is None or len(plugins) == 1
    for entries in plugins.values():
        for entry in entries:
            assert entry["summary"]
            assert entry["from"].startswith("msgm-bench ")
            assert entry["name"] in out


@pytest.mark.parametrize("name", ["obt", "vesde", "gaussians", "classifier", "ur", "heun", "nll"])
def test_info(name, bench):
    """Purpose, source and every option with its default and meaning."""
    code, out, _ = bench("info", name)
    assert code == 0
    assert out.startswith(f"{name} (")
    assert "from msgm-bench" in out
    if name == "obt":
        words = " ".join(out.split())
        assert "arXiv:2412.07229" in words
        assert "Regimes: finetune, retrain" in words or "Regimes: retrain, finetune" in words
        assert all(
            option in out for option in ("alpha", "forget_interval", "sign", "hinge", "0.99")
        )


# Cache, protocol, board --------------------------------------------------------------------


def test_cache(cache, fast, bench, tmp_path):
    """``ls`` shows what is there; ``gc`` deletes what is old, and all of it when asked."""
    code, out, _ = bench("cache", "ls")
    assert code == 0
    assert "0 stages, 0.0 MB" in out
    assert bench(*tiny(out=tmp_path / "runs"))[0] == 0
    code, out, _ = bench("cache", "ls")
    assert "train obt" in out
    assert "5 stages" in out
    code, out, _ = bench("cache", "gc")
    assert "deleted 0 stages" in out, "nothing is a month old"
    (damaged,) = [p for p in cache.glob("done/*") if (p / "weights.safetensors").exists()]
    (damaged / "stage.json").write_text("{")
    code, out, _ = bench("cache", "ls")
    assert code == 0
    assert "damaged" in out
    code, out, _ = bench("cache", "gc", "--all")
    assert code == 0
    assert "deleted 5 stages" in out
    assert not list(cache.glob("done/*"))
    assert len(results(tmp_path / "runs")) == 1, "results are no cache"


def test_protocol_diff(runs, cache, fast, bench, tmp_path):
    """Equal protocols: exit 0; different ones: exit 1 and the setting."""
    first, second = sorted(runs.rglob("result.json"))[:2]
    code, out, _ = bench("protocol", "diff", first, second)
    assert (code, out.strip()) == (0, "the same protocols: values compare")
    assert bench(*tiny("-t", "generation.nfe=10", out=tmp_path / "runs"))[0] == 0
    (other,) = (tmp_path / "runs").rglob("result.json")
    code, out, _ = bench("protocol", "diff", first, other)
    assert code == 1
    assert "generation.nfe is 32 against 10" in out
    assert "10" in out


def test_schema(runs, bench):
    """The published schema is the one that results are valid under."""
    code, out, _ = bench("protocol", "schema")
    assert code == 0
    jsonschema.validate(results(runs)["obt", 0], json.loads(out))


BOARD = {
    "title": "Tiny",
    "summary": "A board for tests.",
    "run": {"dataset": "gaussians", "forget": ["middle"], "backbone": "vesde", "preset": "quick"},
    "methods": ["standard", "obt"],
    "seeds": 2,
    "columns": [
        {"metric": "ur", "split": "samples", "label": "UR", "digits": 1},
        {"metric": "nll", "split": "retain"},
    ],
    "rank": {"metric": "ur", "split": "samples"},
    "gate": {
        "reference": "standard",
        "limits": [{"metric": "nll", "split": "retain", "within": 5.0}],
    },
    "baseline": {
        "method": "standard",
        "bands": [{"metric": "ur", "split": "samples", "low": 0, "high": 100}],
    },
    "commands": ["msgm-bench run"],
}


def test_board(runs, bench, tmp_path):
    """``build`` imports results, writes page and index; ``check`` fails when one is stale."""
    board = tmp_path / "leaderboards" / "tiny"
    board.mkdir(parents=True)
    (board / "board.yaml").write_text(yaml.safe_dump(BOARD))
    code, _, err = bench("board", "check", board)
    assert code == 1
    code, out, err = bench("board", "build", board, "--runs", runs)
    assert code == 0, err
    assert out.count("imported: ") == 4, out + err
    assert "standard" in (board / "README.md").read_text("utf-8")
    code, _, err = bench("board", "check")
    assert code == 1
    assert "README.md is missing: run msgm-bench board build leaderboards" in err, "its index"
    code, out, err = bench("board", "build", "leaderboards")
    assert code == 0, out + err
    assert "](tiny/README.md)" in (board.parent / "README.md").read_text("utf-8")
    code, out, err = bench("board", "check")
    assert code == 0, out + err
    assert out.count("in order") == 2
    page = board / "README.md"
    page.write_text(page.read_text("utf-8") + "by hand\n", encoding="utf-8")
    code, out, _ = bench("board", "check", board)
    assert code == 1
    assert "not in order" in out


# Plugin commands ---------------------------------------------------------------------------


def test_plugin_commands(third_party, bench, tmp_path):
    """A command of a third-party distribution is listed with its owner, and runs."""
    place = third_party(
        "third-party-tools",
        "import click\n@click.command(help='Say hi.')\ndef hi():\n    print('hi')\n",
    )
    entry = place / "third_party_tools-1.2.dist-info" / "entry_points.txt"
    entry.write_text(
        "[msgm_bench.commands]\nhi = third_party_tools:hi\nill = third_party_tools:no\n"
        "run = third_party_tools:hi\n"
    )
    code, out, _ = bench("--help")
    assert code == 0
    assert re.search(r"hi +Say hi \(from third-party-tools\)\.", out)
    assert re.search(r"ill +Broken; from third-party-tools\.", out)
    assert bench("hi")[:2] == (0, "hi\n")
    code, out, _ = bench("run", "-h")
    assert "Train a base model" in out, "a third-party command replaces no built-in one"
