"""Results as a run would leave them, with any value in the place of the measured one."""

from __future__ import annotations

import pytest

from msgm_bench import MetricProtocol, Result, Row, SpecRecord
from msgm_bench.api.result import ProtocolRecord
from msgm_bench.cli import run_and_show
from msgm_paper.mapping import CHOICES, quantity, setting
from msgm_paper.tables import published_values

SUFFIX = {"ur": "judge@1", "acc": "@1", "fid": "@1", "clip": "@1", "psnr": "@1", "ssim": "7@1"}


@pytest.fixture
def entry():
    """``entry(table, method, metric, split, **more)``: the one published value of that place."""

    def find(table, method, metric, split="samples", **more):
        wanted = {"table": table, "method": method, "metric": metric, "split": split, **more}
        (actual,) = [
            c for c in published_values() if all(getattr(c, k) == v for k, v in wanted.items())
        ]
        return actual

    return find


BOX = [32, 0, 16, 64]


@pytest.fixture
def make():
    """``make(entry, value, half)``: a result of the preset ``paper`` that answers it."""

    def result(entry, value, half=0.0, *, seed=0, preset="paper", command="", box=BOX, **spec):
        target, wanted = setting(entry), quantity(entry)
        flag, pair = CHOICES[entry.dataset].options if entry.dataset in CHOICES else ("", "")
        chosen = {"split": "paper"} if entry.dataset == "stl10" else {}
        defaults = {
            "dataset": target.dataset,
            "forget": [name.capitalize() for name in target.forget],
            "backbone": target.backbone,
            "method": target.method or "unseen",
            "params": target.params,
            "regime": target.regime,
            "preset": preset,
            "seed": seed,
            "dataset_params": chosen,
            "settings": {"training": {"steps": target.steps or 1_300_000}},
        }
        how = {"n": 1} | ({"inpainting": {"box": box}} if wanted.task == "inpainting" else {})
        protocol = MetricProtocol(name=f"{wanted.protocol.rstrip('@/')}/x", settings=how)
        if wanted.protocol.endswith("@"):
            protocol = MetricProtocol(name=wanted.protocol.rstrip("@"), settings=how)
        if wanted.variant:
            name, _, version = f"{wanted.protocol}{wanted.variant}".partition("@")
            protocol = MetricProtocol(name=name, version=int(version), settings=how)
        ends = {} if value is None or half is None else {"low": value - half, "high": value + half}
        row = Row(
            task=wanted.task,
            metric=wanted.metric,
            split=wanted.split,
            protocol=protocol.id,
            value=value,
            unit=wanted.unit,
            n=10_000,
            reason="3 of 10000 integrations failed" if value is None else None,
            **ends,
        )
        run_command = f"msgm-bench run --preset {preset} --seed {seed} {flag} '{pair}' {command}"
        return Result(
            status="ok",
            spec=SpecRecord.model_validate(defaults | spec),
            metrics=[row],
            protocols={protocol.id: ProtocolRecord(hash=protocol.hash, settings=how)},
            provenance={"command": run_command if pair else run_command.replace("''", "")},
        )

    return result


@pytest.fixture
def write(tmp_path):
    """``write(*results)``: each in a run folder of its own; the folder of them all."""

    def put(*results, name="runs"):
        for i, result in enumerate(results):
            folder = tmp_path / name / f"deep/run{i}"
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(result.to_json(), encoding="utf-8")
        return tmp_path / name

    return put


@pytest.fixture
def specs(monkeypatch):
    """The requests that ``run --dry-run`` plans."""
    planned = []

    def remember(specs, **options):
        planned.extend(specs)
        return 0

    monkeypatch.setattr(run_and_show, "print_plan", remember)
    return planned
