"""Names that mean harm, through every command: text, and never markup, escapes or places."""

from __future__ import annotations

import csv
import io
import json

import cli_harness
import pytest
import torch
from cli_harness import only, results
from PIL import Image

from msgm_bench.errors import clean
from msgm_bench.storage import dump_yaml

RUN = ("--dataset", "harm", "--backbone", "vesde")
TINY = ("--samples", "8", "-t", "likelihood.rtol=1e-1", "-t", "likelihood.atol=1e-1")
ESCAPE = "\x1b[31mred\u202e [bold]x[/]"
FOLDER = ESCAPE.replace("/", "_")
PLACES = {"pages", "cache", "runs", "site", "shown.png", "board", "spec.yaml", "exported", FOLDER}


@pytest.fixture(scope="module")
def harm():
    """The hostile plugin's own names."""
    source = (cli_harness.THIRD_PARTY / "third_party_hostile.py").read_text("utf-8")
    names = {"__name__": "third_party_hostile_names"}
    exec(compile(source, "third_party_hostile.py", "exec"), names)
    return names


@pytest.fixture
def safely(third_party, cache, bench, tmp_path, monkeypatch):
    """``safely(*arguments, code=0)`` runs a command: what it prints, which is harmless."""
    source = (cli_harness.THIRD_PARTY / "third_party_hostile.py").read_text("utf-8")
    third_party("third-party-hostile", source, "third_party.hostile")
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", cli_harness.FAST_PLUGINS)

    def command(*arguments, code=0):
        exit_code, out, err = bench(*arguments)
        assert exit_code == code, out + err
        for text in (out, err):
            assert clean(text) == text, "a control character reached the terminal"
            assert "Traceback" not in text
            assert "unexpected" not in text
        assert {path.name for path in tmp_path.iterdir()} <= PLACES
        return out, err

    return command


def request(forget, *arguments, method="unseen"):
    """A run on the hostile dataset that trains four steps."""
    return ["run", *RUN, "--method", method, *TINY, "--forget", forget, *arguments]


def test_plugins_with_hostile_texts(safely):
    """``list``, ``info``, ``doctor`` and ``data`` show them letter by letter."""
    out, _ = safely("list")
    assert "[bold]x[/]" in out
    entries = json.loads(safely("list", "--json")[0])
    assert any("\x1b" in entry["summary"] for entry in entries["datasets"]), "JSON keeps the text"
    for name in ("harm", "fails", "odd", "mean"):
        assert "[bold]x[/]" in safely("info", name)[0]
    safely("data", "list")
    safely("data", "check", "harm")
    safely("doctor")


@pytest.mark.parametrize("position", range(7))
def test_a_run_that_forgets_a_hostile_class(position, safely, harm, tmp_path, monkeypatch):
    """The class is named as it was typed, in the result, and its folder is one short name."""
    monkeypatch.setattr("msgm_bench.report.run_folder._draw_pictures", cli_harness.draw_nothing)
    name = harm["CLASSES"][position]
    safely(*request(name))
    ((_, result),) = results(tmp_path / "runs").items()
    assert result["spec"]["forget"] == [name]
    (folder,) = (tmp_path / "runs").iterdir()
    assert len(folder.name.encode()) < 150
    assert (folder / "spec.yaml").exists()
    safely("run", folder / "spec.yaml")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [folder.name]
    documents = json.loads(safely(*request(name, "--json"))[0])
    assert documents["spec"]["forget"] == [name]
    safely(*request(name, "--dry-run"))
    safely("info", *RUN, "--forget", name, "--no-measure")
    assert json.loads(safely("info", *RUN, "--forget", name, "--no-measure", "--json")[0])


def test_hostile_classes_side_by_side(safely, harm, tmp_path):
    """All classes but one, with pictures; then compare, evaluate, export, protocol and board."""
    spec = {"dataset": "harm", "forget": [*harm["CLASSES"][:-1]], "backbone": "vesde"}
    spec |= {"samples": 8, "dataset_params": {"label": harm["RED"]}}
    for method in ("unseen", "standard"):
        (tmp_path / "spec.yaml").write_text(dump_yaml(spec | {"method": method}), "utf-8")
        safely("run", "spec.yaml")
    first, second = sorted((tmp_path / "runs").iterdir())
    assert {path.suffix for path in first.iterdir()} >= {".png", ".md", ".json", ".yaml"}
    report = (first / "report.md").read_text("utf-8")
    assert clean(report) == report
    lines = [line for line in report.splitlines() if not line.startswith("    ")]
    assert "<script>" not in "".join(lines), "it is shown, as code it may stand"
    safely("compare", "runs")
    rows = csv.DictReader(io.StringIO(safely("compare", "runs", "--csv")[0]))
    assert {row["method"] for row in rows} == {"unseen", "standard"}
    safely("compare", first, second, "--figure", "shown.png")
    assert (tmp_path / "shown.png").stat().st_size > 1000
    safely("protocol", "diff", first / "result.json", second / "result.json")
    safely("explain", first)
    safely("explain", first, "odd")
    safely("diff", first, second)
    safely("cache", "ls")
    safely("export", first, "exported", code=2)


FOLDERS = (
    "[bold]dog[/bold]".replace("/", "_"),
    "cat\x1b[31m\x1b]0;title\x07",
    "two\nlines, and | a `pipe` <script>",
    "$\\frac{1$",
    "emoji \U0001f408 " + "x" * 240,
)


PICTURES = ",".join(
    [
        *("datasets.image_folder", "backbones.*", "samplers.*", "methods.baselines"),
        *("tasks.generation", "judges.classifier", "metrics.unlearning_ratio", "third_party.*"),
    ]
)


def test_a_folder_of_pictures_with_hostile_class_names(safely, tmp_path, monkeypatch):
    """Pictures whose classes are named by folders: run, evaluate, check."""
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", PICTURES)
    generator = torch.Generator().manual_seed(0)
    for name in FOLDERS:
        (tmp_path / FOLDER / name).mkdir(parents=True)
        for i in range(10):
            pixels = torch.randint(256, (8, 8), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(tmp_path / FOLDER / name / f"{i}.png")
    data = ("--dataset", "image_folder", "-d", f"folder={tmp_path / FOLDER}", "-d", "size=8")
    data += ("--preset", "quick", "--samples", "4", "-t", "generation.nfe=2")
    data += ("-j", "network=small", "-j", "steps=2", "-j", "width=4")
    network = ("--backbone", "vpsde", "-b", "network=mlp", "-b", "width=16", "--steps", "1")
    for name in (FOLDERS[1], FOLDERS[2]):
        safely("run", *data, *network, "--method", "unseen", "--forget", name)
    folder = next((tmp_path / "runs").glob("*two_lines*"))
    assert only(folder)["spec"]["forget"] == [FOLDERS[2]]
    safely("evaluate", folder / "model", *data, "--forget", FOLDERS[1])
    safely("data", "check", "image_folder", "--data-dir", tmp_path / FOLDER)


def test_rows_that_are_not_finite(safely, harm, tmp_path, monkeypatch):
    """A metric that answers NaN or infinity has null with a reason, and the run its result."""
    monkeypatch.setattr("msgm_bench.report.run_folder._draw_pictures", cli_harness.draw_nothing)
    safely(*request(harm["CLASSES"][0]))
    ((_, result),) = results(tmp_path / "runs").items()
    rows = {row["split"]: row for row in result["metrics"] if row["metric"] == "odd"}
    assert [rows[split]["value"] for split in ("nan", "inf", "half", "open")] == [None] * 3 + [1.0]
    assert rows["nan"]["reason"] == "the value is nan"
    assert rows["inf"]["reason"].startswith("it exploded")
    assert (rows["half"]["low"], rows["half"]["high"]) == (None, 1.0)
    assert rows["half"]["reason"] == "the value is -inf"
    assert (rows["open"]["low"], rows["open"]["high"]) == (None, None)


def test_errors_with_hostile_texts(safely, harm, tmp_path):
    """What a method raises becomes the run's reason, and a line of the terminal."""
    out, _ = safely(*request(harm["CLASSES"][2], method="fails"), code=1)
    assert "no loss" in out
    safely("compare", "runs", code=2)


@pytest.mark.parametrize(
    "arguments",
    [
        [ESCAPE],
        ["list", ESCAPE],
        ["info", ESCAPE],
        ["info", "--dataset", ESCAPE, "--backbone", "vesde"],
        ["run", f"--{ESCAPE}"],
        ["run", ESCAPE],
        ["run", *RUN, "--forget", ESCAPE, "--method", "unseen"],
        ["run", *RUN, "--forget", "x", "--method", ESCAPE],
        ["run", *RUN, "--forget", "x", "--method", "unseen", "-d", f"{ESCAPE}={ESCAPE}"],
        ["run", *RUN, "--forget", "x", "--method", "unseen", "-b", f"width={ESCAPE}"],
        ["run", *RUN, "--forget", "x", "--method", "unseen", "-t", ESCAPE],
        ["run", *RUN, "--forget", "x", "--method", "unseen", "--seed", ESCAPE],
        ["run", *RUN, "--forget", "x", "--method", "unseen", "--base", ESCAPE],
        ["run", *RUN, "--forget", "x", "--method", "unseen", "--device", ESCAPE],
        ["run", *RUN, "--forget", "x", "--method", "unseen", "--data-dir", ESCAPE],
        ["run", *RUN, "--forget", "x", "--method", "unseen", "--executor", ESCAPE],
        ["run", *RUN, "--forget", "x", "--method", "unseen", "--task", ESCAPE],
        ["run", *RUN, "--forget", "x", "--method", "obt", "--training", f"{ESCAPE}=1"],
        ["evaluate", ESCAPE],
        ["export", ESCAPE, ESCAPE],
        ["compare", ESCAPE],
        ["explain", ESCAPE],
        ["diff", ESCAPE, ESCAPE],
        ["variance", ESCAPE],
        ["tune", "--board", ESCAPE],
        ["board", "build", ESCAPE],
        ["board", "power", ESCAPE],
        ["board", "site", "pages", "--boards", ESCAPE],
        ["board", ESCAPE],
        ["protocol", "diff", ESCAPE, ESCAPE],
        ["cache", ESCAPE],
        ["cache", "gc", "--older-than", ESCAPE],
        ["data", "check", ESCAPE],
        ["data", "fetch", ESCAPE],
        ["completion", ESCAPE],
    ],
    ids=lambda arguments: "-".join(arguments[:1] + arguments[-2:-1]).replace(ESCAPE, "escape"),
)
def test_hostile_arguments(arguments, safely):
    """What is typed comes back as text, with exit 2 and nothing written."""
    _, err = safely(*arguments, code=2)
    assert err


@pytest.mark.parametrize("text", [f"method: {json.dumps(ESCAPE)}", f"{ESCAPE}: 1", "\x1b[31m: ["])
def test_hostile_files(text, safely, tmp_path):
    """Files in a folder of hostile name, with hostile content."""
    place = tmp_path / FOLDER
    place.mkdir()
    for name in ("spec.yaml", "result.json", "model.json", "board.yaml", "pictures.safetensors"):
        (place / name).write_text(text, "utf-8")
    (place / "model").mkdir()
    safely("run", place / "spec.yaml", code=2)
    for arguments in (
        ["compare", place],
        ["compare", place, "--figure", "shown.png"],
        ["protocol", "diff", place / "result.json", place / "result.json"],
        ["board", "build", place],
        ["board", "check", place],
        ["board", "power", place],
        ["board", "site", "pages", "--boards", place],
        ["export", place, "exported"],
        ["explain", place],
        ["explain", place / "result.json", ESCAPE],
        ["diff", place / "result.json", place],
        ["variance", place],
    ):
        safely(*arguments, code=pytest.approx(1.5, abs=0.5))
    safely("evaluate", place, *RUN[:2], "--forget", "x", code=2)
