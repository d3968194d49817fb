"""A result made by hand, with plugins that do not exist, and one changed in a single place."""

from __future__ import annotations

import copy
import json

import pytest

from msgm_bench.api.result import MetricProtocol, ProtocolRecord, Result, Row, SpecRecord

SETTINGS = {"draw": {"nfe": 32}, "judge": {"name": "rule", "options": {"width": 8}}, "data": "x@1"}
SHARE = MetricProtocol(name="share/judge", settings=SETTINGS)
COST = MetricProtocol(name="cost/mean", settings={"estimate": {"nodes": 4}, "data": "x@1"})
STAGES = {
    "fit judge rule": "1" * 64,
    "base": "2" * 64,
    "train tune": "3" * 64,
    "draw draw": "4" * 64,
    "measure": "5" * 64,
}
CODE = {"core": "a" * 64, "methods/tune": "b" * 64, "metrics/share": "c" * 64}
SPEC = {
    "dataset": "points",
    "forget": ["b"],
    "backbone": "net",
    "method": "tune",
    "params": {"strength": 0.5},
    "regime": "finetune",
    "preset": "quick",
    "seed": 3,
    "seeds": {"train": 3, "unlearn": 4, "sample": 5},
    "settings": {
        "training": {"steps": 100, "batch_size": 16, "learning_rate": 0.001, "passes": None},
        "tasks": {"draw": {"nfe": 32}},
        "judge": {"name": "rule", "width": 8, "gate": 0.9},
    },
}
PROVENANCE = {
    "command": "msgm-bench run --method tune --dataset points --forget b --backbone net --seed 3",
    "versions": {"torch": "2.9"},
    "code": CODE,
    "git_commit": "e" * 40,
    "dataset_fingerprint": "f" * 64,
    "stages": STAGES,
    "seconds": dict.fromkeys(STAGES, 1.5),
    "passes": {"base": 200.0, "train tune": 100.0},
    "wall_seconds": 7.5,
    "hardware": {"device": "cpu", "precision": "fp32", "threads": 1, "peak_memory_mib": 300},
    "judge": {"accuracy": 0.95, "items": 40},
}


def row(protocol, metric, value, half, **fields):
    """A row with a symmetric interval."""
    ends = {} if value is None or half is None else {"low": value - half, "high": value + half}
    common = {"task": "draw", "split": "samples", "unit": "1", "n": 100, "direction": "down"}
    why = "it diverged" if value is None else None
    return Row(
        metric=metric, value=value, protocol=protocol.id, reason=why, **common | ends | fields
    )


@pytest.fixture
def make():
    """``make(changes, share, cost)``: the result with parts changed by path (``spec:seed``)."""

    def result(changes=(), share=(10.0, 1.0), cost=(2.0, 0.1)):
        document = copy.deepcopy({"spec": SPEC, "provenance": PROVENANCE})
        settings = {SHARE.name: copy.deepcopy(SETTINGS), COST.name: dict(COST.settings)}
        document["protocols"] = settings
        for key, value in dict(changes).items():
            target, *path = key.split(":")
            place = document[target]
            for part in path[:-1]:
                place = place[part]
            place[path[-1]] = value
        protocols = [MetricProtocol(name=k, settings=v) for k, v in settings.items()]
        rows = [
            row(protocols[0], "share", *share, unit="%"),
            row(protocols[1], "cost", *cost, task="estimate", split="retain"),
        ]
        return Result(
            status="ok",
            spec=SpecRecord.model_validate(document["spec"]),
            metrics=rows,
            protocols={p.id: ProtocolRecord(hash=p.hash, settings=p.settings) for p in protocols},
            provenance=document["provenance"],
        )

    return result


@pytest.fixture
def write(tmp_path):
    """``write(result, name)``: a run folder with it."""

    def put(result, name="run"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(result.to_json(), encoding="utf-8")
        return folder

    return put


@pytest.fixture
def forge():
    """``forge(result, **spec)``: its text with parts of the spec replaced and the old digest."""

    def text(result, **spec):
        document = json.loads(result.to_json())
        document["spec"] |= spec
        return json.dumps(document)

    return text


INCEPTION, JUDGE = (
    MetricProtocol(name=f"fid/{name}/drawing", settings={"data": "x@1"})
    for name in ("inception-2015", "judge")
)


@pytest.fixture
def with_fid(make):
    """``with_fid(reason, judged)``: the result with two more rows that differ by protocol alone."""

    def result(reason="its weights are not on this machine", judged=2.215):
        base = make()
        rows = [row(INCEPTION, "fid", None, None), row(JUDGE, "fid", judged, 0.1)]
        rows[0] = rows[0].model_copy(update={"reason": reason})
        records = {
            p.id: ProtocolRecord(hash=p.hash, settings=p.settings) for p in (INCEPTION, JUDGE)
        }
        return Result(
            status="ok",
            spec=base.spec,
            metrics=[*base.metrics, *rows],
            protocols={**base.protocols, **records},
            provenance=base.provenance,
        )

    return result
