"""A tiny run of the text track from its folder to a board: every row follows from the archive."""

from __future__ import annotations

import re

import cli_harness
import yaml

from msgm_bench.report import run_folder
from msgm_bench.submissions import check, make, pack, unpack

PLUGINS = (
    *("datasets.scenes", "backbones.t2i", "samplers.*", "methods.*", "judges.scenes"),
    *("tasks.prompt_generation", "tasks.drift", "tasks.prompt_attack", "trackers.*"),
    *("tasks.prompt_noise_sensitivity", "metrics.prompt_noise_sensitivity"),
    *("metrics.concept_accuracy", "metrics.in_prompt", "metrics.drift", "metrics.attack_success"),
)
ATTACK = {"prefixes": 2, "screening": 1, "finalists": 1, "selection": 1, "draws": 3, "nfe": 2}
RUN = (
    *("--dataset", "scenes", "--forget", "circle", "--backbone", "t2i", "--text"),
    *("--device", "cpu", "--steps", "3", "--samples", "4", "--method", "neggrad"),
    *("-d", "train_size=500", "-d", "test_size=500", "-b", "width=16", "-b", "depth=1"),
    *("-b", "text_width=16", "-b", "text_layers=1", "--task", "prompt_noise_sensitivity"),
    *("-t", "prompt_generation.nfe=2", "-t", "drift.nfe=2"),
    *("-t", "prompt_noise_sensitivity.nfe=2", "-t", "prompt_noise_sensitivity.samplers=[deis]"),
    *("-t", "prompt_noise_sensitivity.budgets=[3]"),
    *(part for k, v in ATTACK.items() for part in ("-t", f"prompt_attack.{k}={v}")),
)
COLUMNS = ("ua", "in_prompt", "ira", "cra", "asr", "asr_control", "ua_worst")
BOARD = {
    "title": "Tiny",
    "summary": "A board for tests.",
    "run": {
        "dataset": "scenes",
        "forget": ["circle"],
        "backbone": "t2i",
        "preset": "quick",
        "text": True,
        "tasks": ["prompt_noise_sensitivity"],
    },
    "methods": ["unseen", "neggrad"],
    "seeds": 1,
    "columns": [{"metric": name, "split": "samples"} for name in COLUMNS],
    "rank": {"metric": "ua", "split": "samples"},
    "gate": {"reference": "unseen", "limits": [{"metric": "ira", "split": "samples", "within": 9}]},
    "baseline": {
        "method": "unseen",
        "bands": [{"metric": "ua", "split": "samples", "low": 0, "high": 100}],
    },
    "commands": ["msgm-bench run"],
}


def test_a_run_of_the_text_track_is_recomputed(bench, cache, new_registry, monkeypatch, tmp_path):
    """Accuracies, drift, attack with its control and the worst sampler: no row stays claimed."""
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", ",".join(PLUGINS))
    monkeypatch.setattr(run_folder, "_draw_pictures", cli_harness.draw_nothing)
    new_registry.cache_clear()
    code, _, errors = bench("run", *RUN)
    assert code == 0, errors
    (run,) = (tmp_path / "runs").iterdir()
    place = tmp_path / "board"
    place.mkdir()
    (place / "board.yaml").write_text(yaml.safe_dump(BOARD), encoding="utf-8")
    code, out, errors = bench("submit", run, "--board", place, "--out", "a.zip")
    assert code == 0, errors
    assert re.search(r"recomputed: neggrad seed 0 on scenes; (\d+) of \1 rows", out), out
    code, out, _ = bench("board", "add", place, "a.zip")
    assert (code, "added: " in out) == (0, True)
    assert "| recomputed |" in (place / "README.md").read_text("utf-8")
    assessment = check(unpack(pack(make(run)), "x.zip"))
    metrics = {row.metric for row in assessment.result.metrics if row.key in assessment.recomputed}
    assert {*COLUMNS, "drift", "asr_mean", "ua_fall", "cra_clean"} <= metrics
    assert assessment.claimed == []
