"""Parts of a t2i model: exported, and evaluated on their base."""

from __future__ import annotations

import shutil

import cli_harness
import pytest
import torch
from lazy import LazyModule

from msgm_bench.report import run_folder

safetensors = LazyModule("safetensors.torch")
PLUGINS = (
    *("datasets.scenes", "backbones.t2i", "samplers.*", "methods.*", "judges.scenes"),
    *("tasks.prompt_generation", "metrics.concept_accuracy", "trackers.*"),
)
DATA = (
    *("--dataset", "scenes", "--forget", "circle", "--device", "cpu", "--samples", "4"),
    *("-d", "train_size=500", "-d", "test_size=500", "--backbone", "t2i", "--text"),
    *("-t", "prompt_generation.nfe=2"),
)
SMALL = ("-b", "width=16", "-b", "depth=1", "-b", "text_width=16", "-b", "text_layers=1")
FILES = {"cross": "unet.safetensors", "lora:2": "pytorch_lora_weights.safetensors"}


@pytest.fixture(autouse=True)
def few_plugins(monkeypatch, new_registry):
    """One task and one metric, and no pictures."""
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", ",".join(PLUGINS))
    monkeypatch.setattr(run_folder, "_draw_pictures", cli_harness.draw_nothing)
    new_registry.cache_clear()


def values(result):
    """Values of a result by metric and split."""
    return {(row["metric"], row["split"]): row["value"] for row in result["metrics"]}


@pytest.mark.parametrize("part", list(FILES))
def test_a_part_is_exported_and_evaluated(bench, cache, tmp_path, part):
    """The file holds the part alone; on the base it has the values of its run."""
    methods = ("--method", "standard", "--method", "neggrad", "-p", f"neggrad.weights={part}")
    code, _, errors = bench("run", *DATA, *SMALL, "--steps", "3", *methods)
    assert code == 0, errors
    (base,) = (tmp_path / "runs").glob("*standard*")
    (run,) = (tmp_path / "runs").glob("*neggrad*")
    code, _, errors = bench("export", run, "part")
    assert code == 0, errors
    tensors = safetensors.load_file(tmp_path / "part" / FILES[part])
    own = safetensors.load_file(run / "model" / "weights.safetensors")
    assert len(tensors) == len(own) > 0
    for name, tensor in tensors.items():
        owner = f"unet.{name}" if part == "cross" else name.replace(".weight", ".default.weight")
        assert torch.equal(tensor, own[owner])
    assert "--base BASE" in (tmp_path / "part" / "README.md").read_text("utf-8")
    shutil.rmtree(cache)
    code, _, errors = bench("evaluate", "part", *DATA, "--base", base, "--out", "again")
    assert code == 0, errors
    again, own = cli_harness.only(tmp_path / "again"), cli_harness.only(run)
    assert values(again) == values(own)
