"""Results and a board made by hand, with methods and a dataset that do not exist."""

from __future__ import annotations

import copy
import json

import pytest
import yaml

from msgm_bench.api.result import MetricProtocol, ProtocolRecord, Result, Row, SpecRecord
from msgm_bench.evaluation.statistics import wilson

BOARD = {
    "title": "Toy, forgetting b",
    "summary": "A board for tests.",
    "run": {"dataset": "toy", "forget": ["b"], "backbone": "net", "preset": "full"},
    "methods": ["base", "ideal", "alpha", "beta"],
    "seeds": 3,
    "columns": [
        {"metric": "ur", "split": "samples", "label": "UR", "digits": 1},
        {"metric": "nll", "split": "retain"},
        {"metric": "nll", "split": "forget"},
    ],
    "rank": {"metric": "ur", "split": "samples"},
    "gate": {
        "reference": "ideal",
        "limits": [{"metric": "nll", "split": "retain", "within": 0.1}],
    },
    "baseline": {
        "method": "base",
        "bands": [{"metric": "ur", "split": "samples", "low": 20, "high": 40}],
    },
    "commands": ["msgm-bench run --dataset toy --method base ideal alpha beta"],
}

UR = MetricProtocol(name="unlearning_ratio/judge", settings={"count": 1000, "judge": {"width": 8}})
NLL = MetricProtocol(name="nll/ode", settings={"steps": 50})

# ur, nll on retain, nll on forget, for seeds 0, 1, 2
NUMBERS = {
    "base": ([30.0, 31.0, 29.0], [2.02, 2.03, 2.01], [2.5, 2.6, 2.4]),
    "ideal": ([10.0, 10.2, 9.8], [2.00, 2.01, 1.99], [4.0, 4.1, 3.9]),
    "alpha": ([5.0, 5.1, 5.0], [2.05, 2.06, 2.04], [6.0, 6.1, 5.9]),
    "beta": ([5.1, 4.9, 5.2], [2.08, 2.04, 2.06], [7.0, 7.1, 6.9]),
}


def ends(value, unit):
    """Wilson's interval of a whole number of 1,000 items in per cent, 0.5 around the rest."""
    if value is None:
        return {}
    count = round(10 * value)
    if unit == "%" and abs(10 * value - count) < 1e-6:
        interval = wilson(count, 1000).scaled(100)
        return {"low": interval.low, "high": interval.high}
    return {"low": value - 0.5, "high": value + 0.5}


def rows(ur, retain, lost):
    """The three rows of a result; None is a failed value."""
    given = [
        ("generation", "ur", "samples", UR.id, ur, "%", "down"),
        ("likelihood", "nll", "retain", NLL.id, retain, "bits/dim", "down"),
        ("likelihood", "nll", "forget", NLL.id, lost, "bits/dim", "up"),
    ]
    return [
        Row(
            task=task,
            metric=metric,
            split=split,
            protocol=protocol,
            value=value,
            unit=unit,
            n=1000,
            **ends(value, unit),
            direction=direction,
            reason="the solver diverged" if value is None else None,
        )
        for task, metric, split, protocol, value, unit, direction in given
    ]


@pytest.fixture
def make():
    """``make(method, seed, ur, retain, lost, **changes of the spec)`` is a result."""

    def result(method="alpha", seed=0, ur=5.0, retain=2.0, lost=6.0, **changes):
        protocols = changes.pop("protocols", (UR, NLL))
        outer = {key: changes.pop(key) for key in ("status", "reason") if key in changes}
        more = changes.pop("provenance", {})
        spec = {
            "dataset": "toy",
            "forget": ["b"],
            "backbone": "net",
            "method": method,
            "params": {},
            "regime": "retrain",
            "preset": "full",
            "seed": seed,
        }
        status = outer.get("status", "ok")
        return Result(
            status=status,
            reason=outer.get("reason"),
            spec=SpecRecord(**(spec | changes)),
            metrics=rows(ur, retain, lost) if status == "ok" else [],
            protocols={p.id: ProtocolRecord(hash=p.hash, settings=p.settings) for p in protocols},
            provenance={
                "packages": {"torch": "2.8.0", "numpy": "2.1"},
                "device": "cpu",
                "threads": 2,
                "hostname": "secret-host",
                "hardware": {"cpu": "Some CPU", "node": "secret-node"},
                "command": f"msgm-bench run --method {method} --dataset toy --forget b "
                f"--backbone net --seed {seed} -d folder=/home/secret",
                **more,
            },
        )

    return result


@pytest.fixture
def everything(make):
    """All twelve results of the board."""
    return [
        make(method, seed, *(column[seed] for column in columns))
        for method, columns in NUMBERS.items()
        for seed in range(3)
    ]


@pytest.fixture
def definition():
    """The content of board.yaml, to change at will."""
    return copy.deepcopy(BOARD)


@pytest.fixture
def folder(tmp_path, definition, everything):
    """A complete board, without a page."""
    place = tmp_path / "leaderboards" / "toy-net-b"
    put(place, everything, definition)
    return place


def put(place, results, definition=None):
    """Write results, and a definition if given, into a board's folder."""
    (place / "results").mkdir(parents=True, exist_ok=True)
    if definition is not None:
        text = yaml.safe_dump(definition, allow_unicode=True, sort_keys=False)
        (place / "board.yaml").write_text(text, encoding="utf-8")
    for result in results:
        name = f"{result.spec.method}-s{result.spec.seed}.json"
        (place / "results" / name).write_text(result.to_json(), encoding="utf-8")


@pytest.fixture
def write():
    """``put``."""
    return put


@pytest.fixture
def edit():
    """``edit(path, change, signed=True)`` rewrites a result through ``change(content)``.

    ``signed``: with the digest that belongs to it then, as somebody would who knows the format.
    """

    def rewrite(path, change, signed=True):
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        if signed:
            plain = {k: v for k, v in content.items() if k not in ("schema", "digest")}
            content["digest"] = Result(**plain).digest
        path.write_text(json.dumps(content), encoding="utf-8")

    return rewrite
