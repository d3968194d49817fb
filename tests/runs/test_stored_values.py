"""Numbers stand still: tiny runs give the values that they gave before the code was rearranged."""

from __future__ import annotations

import json
from pathlib import Path

import cli_harness
import pytest
import torch

STORED = json.loads((Path(__file__).parent / "stored_values.json").read_text("utf-8"))
PLUGINS = ",".join(
    [
        *("datasets.gaussians", "datasets.digits", "backbones.*", "samplers.*", "methods.*"),
        *("tasks.*", "judges.bayes", "judges.classifier", "embedders.*", "executors.*"),
        *(f"metrics.{name}" for name in ("unlearning_ratio", "unlearning_accuracy", "nll")),
        *(f"metrics.{name}" for name in ("accuracy", "image_quality", "fid")),
    ]
)


def is_same_arithmetic() -> bool:
    """Whether this machine rounds as the one that stored the values did."""
    minor = torch.__version__.split(".")[:2] == STORED["torch"].split(".")[:2]
    return minor and torch.backends.cpu.get_cpu_capability() == STORED["cpu_capability"]


@pytest.mark.parametrize("group", STORED["groups"], ids=["vesde", "vpsde", "subvpsde", "ddpm"])
def test_tiny_runs_give_the_stored_values(group, bench, cache, new_registry, monkeypatch, tmp_path):
    """Equal where arithmetic is the same; elsewhere likelihoods, which count nothing, to 1e-4."""
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", PLUGINS)
    monkeypatch.setattr("msgm_bench.report.run_folder._draw_pictures", cli_harness.draw_nothing)
    new_registry.cache_clear()
    methods = [word for name in group["methods"] for word in ("--method", name)]
    code, _, err = bench("run", *group["arguments"], *methods, "--device", "cpu", "--seed", "0")
    assert code == 0, err
    results = cli_harness.results(tmp_path / "runs")
    for method, stored in group["methods"].items():
        rows = results[method, 0]["metrics"]
        values = {f"{row['task']}/{row['metric']}/{row['split']}": row["value"] for row in rows}
        values = {name: value for name, value in values.items() if value is not None}
        if is_same_arithmetic():
            assert {name: values.get(name) for name in stored} == stored, method
        else:
            names = [n for n in stored if n.split("/")[1] in ("nll", "nll_median", "nll_nats")]
            nll = {name: values.get(name) for name in names}
            assert nll == pytest.approx({name: stored[name] for name in names}, rel=1e-4), method
