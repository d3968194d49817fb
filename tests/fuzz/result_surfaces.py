"""Third-party results, boards, specs and pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from surface import Surface

from msgm_bench.cli.main import call

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "leaderboards" / "gaussians-vesde-middle"
TUNED = ROOT / "leaderboards" / "digits-vesde-3-7-tuned"
GAUSSIANS = ("--dataset", "gaussians", "--forget", "middle")
OBT = "runs/*-obt-s0-*"
SMALL = ("-d", "train_size=200", "-d", "test_size=200", "--samples", "16")


def _board(folder: Path) -> None:
    target = folder / "board"
    target.mkdir()
    for name in ("board.yaml", "README.md", "protocols.md"):
        if (BOARD / name).exists():
            shutil.copy(BOARD / name, target / name)
    (target / "results").mkdir()
    for path in sorted((BOARD / "results").glob("*.json")):
        shutil.copy(path, target / "results" / path.name)


def _board_commands(folder: Path) -> list[list[str]]:
    board = str(folder / "board")
    return [["board", "check", board], ["board", "build", board]]


def _board_with_sweep(folder: Path) -> None:
    _board(folder)
    spec = json.loads((BOARD / "results" / "obt-s0.json").read_text("utf-8"))["spec"]
    common = {"task": "generation", "metric": "ur", "split": "samples", "protocol": "ur@1"}
    row = common | {"value": 5.0, "unit": "%", "n": 9, "low": 4.0, "high": 6.0}
    hashes = {"ur@1": "0" * 12}
    points = [
        {"sampler": name, "nfe": 8, "evaluations": 8.0, "rows": [row], "protocols": hashes}
        for name in ("deis", "sa")
    ]
    sweep = {"schema": "msgm-bench/sweep@1", "spec": spec, "weights": "a" * 64}
    sweep |= {"task": "generation", "points": points}
    sweep["columns"] = [{"metric": "ur", "label": "UR", "direction": "down"}]
    (folder / "board" / "sweep.json").write_text(json.dumps(sweep), encoding="utf-8")


def _tuned_board(folder: Path) -> None:
    results = folder / "board" / "results"
    results.mkdir(parents=True)
    for name in ("board.yaml", "tuning.json", "results/unseen-s0.json", "results/ort-s0.json"):
        shutil.copy(TUNED / name, folder / "board" / name)


def _tuned_commands(folder: Path) -> list[list[str]]:
    board = str(folder / "board")
    return [["board", "check", board], ["board", "build", board]]


def _sweep_commands(folder: Path) -> list[list[str]]:
    return [["board", "build", str(folder / "board")]]


def _result(folder: Path) -> None:
    run = folder / "runs" / "one"
    run.mkdir(parents=True)
    shutil.copy(BOARD / "results" / "obt-s0.json", run / "result.json")
    other = folder / "runs" / "two"
    other.mkdir()
    shutil.copy(BOARD / "results" / "ort-s0.json", other / "result.json")


def _result_commands(folder: Path) -> list[list[str]]:
    runs = folder / "runs"
    return [
        ["compare", str(runs)],
        ["protocol", "diff", *(str(runs / name / "result.json") for name in ("one", "two"))],
        ["paper", "msgm", "--table", "1", "--runs", str(runs)],
    ]


def _spec(folder: Path) -> None:
    (folder / "spec.yaml").write_text(
        "dataset: gaussians\nforget: [middle]\nbackbone: vesde\nmethod: obt\nseed: 0\nsteps: 5\n"
        "samples: 16\nparams: {alpha: 0.7}\ntask_params: {likelihood: {rtol: 0.01}}\n"
        "dataset_params: {train_size: 200, test_size: 200}\njudge_params: {gate: 0.5}\n"
    )


def write_runs(folder: Path) -> None:
    """Two run folders: two steps on a network of a few weights."""
    for method in ("standard", "obt"):
        code = call(
            [
                *("run", *GAUSSIANS, *SMALL, "--backbone", "vesde", "--method", method),
                *("--steps", "2", "-b", "width=8", "-b", "depth=1", "-t", "likelihood.rtol=0.1"),
                *("-t", "likelihood.atol=0.1", "--out", str(folder / "runs")),
            ]
        )
        assert code == 0


def run_of(folder: Path, method: str) -> Path:
    """The run folder of a method."""
    return next((folder / "runs").glob(f"*-{method}-s0-*"))


def _export_commands(folder: Path) -> list[list[str]]:
    return [["export", str(run_of(folder, "obt")), str(folder / "exported")]]


def _figure_commands(folder: Path) -> list[list[str]]:
    return [["compare", str(folder / "runs"), "--figure", str(folder / "both.png")]]


def _spec_commands(folder: Path) -> list[list[str]]:
    return [["run", str(folder / "spec.yaml"), "--dry-run"]]


def _run_spec_commands(folder: Path) -> list[list[str]]:
    run = run_of(folder, "obt")
    return [
        ["evaluate", str(run), *GAUSSIANS, *SMALL, "--dry-run"],
        ["run", str(run / "spec.yaml"), "--dry-run"],
    ]


def _paper_board_commands(folder: Path) -> list[list[str]]:
    return [["paper", "msgm", "--runs", str(folder / "board"), "--json"]]


SURFACES = [
    Surface("result on a board", _board, "board/results/obt-s0.json", "result", _board_commands),
    Surface("board", _board, "board/board.yaml", "yaml", _board_commands),
    Surface("sweep of a board", _board_with_sweep, "board/sweep.json", "json", _sweep_commands),
    Surface("tuning of a board", _tuned_board, "board/tuning.json", "json", _tuned_commands),
    Surface("board's page", _board, "board/README.md", "bytes", _board_commands),
    Surface(
        "result for the paper", _board, "board/results/obt-s0.json", "result", _paper_board_commands
    ),
    Surface("result of a run", _result, "runs/one/result.json", "result", _result_commands),
    Surface("spec", _spec, "spec.yaml", "yaml", _spec_commands),
    Surface("spec of a run", write_runs, f"{OBT}/spec.yaml", "yaml", _run_spec_commands),
    Surface("result for export", write_runs, f"{OBT}/result.json", "result", _export_commands, 2),
    Surface("pictures", write_runs, f"{OBT}/pictures.safetensors", "safetensors", _figure_commands),
]
