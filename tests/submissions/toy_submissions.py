"""Submissions made by hand: rows that follow from their evidence, in the names of real plugins."""

from __future__ import annotations

import copy
import functools
import json
from dataclasses import replace

import torch

from msgm_bench import Evidence, MetricProtocol, RunSpec
from msgm_bench.api.result import ProtocolRecord, Result
from msgm_bench.boards.board import Board
from msgm_bench.cache.fingerprint import plugin_source, source_of
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.resolved_spec import ResolvedSpec
from msgm_bench.registry import registry
from msgm_bench.report.provenance import CORE, rerun_command
from msgm_bench.storage import dump_yaml
from msgm_bench.submissions import BoardFacts, Submission
from msgm_bench.submissions.archive import Exhibit

SETTINGS = {"judge": {"name": "bayes"}, "count": 60}
PROTOCOLS = {
    "ur": MetricProtocol(name="unlearning_ratio/judge", settings=SETTINGS),
    "nll": MetricProtocol(
        name="nll/pf-ode", version=2, settings={"offset": 8.0, "unit": "bits/dim", "nodes": 32}
    ),
    "fid-judge": MetricProtocol(name="fid/judge", settings=SETTINGS),
    "psnr": MetricProtocol(name="psnr/mean/inpainting", settings={"mask": "half"}),
    "ssim": MetricProtocol(name="ssim/uniform-7/inpainting", settings={"mask": "half"}),
}
TASKS = {
    "ur": "generation",
    "nll": "likelihood",
    "fid-judge": "generation",
    "psnr": "inpainting",
    "ssim": "inpainting",
}
PLUGINS = (
    *("datasets/gaussians", "backbones/vesde", "judges/bayes", "embedders/judge"),
    *("samplers/dpmpp_2m_sde", "tasks/generation", "tasks/likelihood", "tasks/inpainting"),
    *(f"metrics/{name}" for name in PROTOCOLS),
)
BOARD = Board.model_validate(
    {
        "title": "Toy",
        "summary": "A board for tests.",
        "run": {
            "dataset": "gaussians",
            "forget": ["middle"],
            "backbone": "vesde",
            "preset": "quick",
            "regime": "retrain",
        },
        "methods": ["standard", "unseen", "ort", "obt"],
        "seeds": 1,
        "columns": [
            {"metric": "ur", "split": "samples"},
            {"metric": "nll", "split": "retain"},
            {"metric": "fid", "split": "samples"},
            {"metric": "psnr", "split": "retain"},
            {"metric": "ssim", "split": "retain"},
        ],
        "rank": {"metric": "ur", "split": "samples"},
        "gate": {
            "reference": "unseen",
            "limits": [{"metric": "nll", "split": "retain", "within": 1}],
        },
        "baseline": {
            "method": "standard",
            "bands": [{"metric": "ur", "split": "samples", "low": 0, "high": 100}],
        },
        "commands": ["none"],
    }
)


def tensors_of(metric, seed):
    """Evidence of 60 items."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    def classes(*shape):
        return torch.randint(0, 3, shape, generator=generator)

    yes = torch.ones(60, dtype=torch.bool)
    if metric == "ur":
        real = torch.arange(30) % 3
        return {
            "targets": torch.tensor([1]),
            "finite": yes,
            "samples": classes(60),
            "samples_recognised": yes,
            "retain": real[real != 1],
            "retain_recognised": yes[:20],
            "forget": real[real == 1],
            "forget_recognised": yes[:10],
        }
    if metric == "nll":
        return {
            "dim": torch.tensor(2),
            "discrete": torch.tensor(True),
            "retain_nats": normal(40).double(),
            "forget_nats": normal(20).double() + 3,
        }
    if metric == "fid-judge":
        return {
            "features": normal(60, 4),
            "reference_mean": torch.zeros(4, dtype=torch.float64),
            "reference_covariance": torch.eye(4, dtype=torch.float64)[*torch.tril_indices(4, 4)],
            "reference_n": torch.tensor(500),
        }
    values = torch.rand(40, generator=generator, dtype=torch.float64)
    return {"values": 30 * values if metric == "psnr" else values}


@functools.cache
def digests(method):
    """Digests of the code that is installed."""
    named = (name.split("/") for name in (*PLUGINS, f"methods/{method}"))
    plugins = {f"{k}/{n}": plugin_source(registry().entry(k, n).cls) for k, n in named}
    return plugins | {"core": source_of(*(f"msgm_bench.{package}" for package in CORE))}


@functools.cache
def honest(method="obt", seed=0):
    """A submission in which everything is as it should be."""
    spec = RunSpec(
        dataset="gaussians",
        forget=("middle",),
        backbone="vesde",
        method=method,
        seed=seed,
        judge_params={"gate": 0.9},
    )
    exhibits, rows = [], []
    for number, (name, protocol) in enumerate(PROTOCOLS.items()):
        tensors = tensors_of(name, 1000 * number + 10 * seed + len(method))
        evidence = Evidence(TASKS[name], protocol.id, protocol.settings, ("middle",), tensors)
        exhibits.append(Exhibit(name, evidence))
        rows += registry().entry("metrics", name).cls.recompute(evidence)
    plan = resolve(spec, download=False)
    record = ResolvedSpec.of(plan)
    result = Result(
        status="ok",
        spec=record,
        metrics=rows,
        protocols={
            p.id: ProtocolRecord(hash=p.hash, settings=p.settings) for p in PROTOCOLS.values()
        },
        provenance={
            "command": rerun_command(spec),
            "versions": {"msgm-bench": "0.1.0"},
            "code": digests(method),
            "dataset_fingerprint": plan.loaded.fingerprint,
            "judge": {"accuracy": 0.99, "items": 60_000},
        },
    )
    request = dump_yaml(spec.model_dump(mode="json", exclude_defaults=True))
    return Submission("x.zip", result, result.to_json(), request, spec, tuple(exhibits))


@functools.cache
def facts():
    """The board with three honest results."""
    return BoardFacts(BOARD, [honest(name).result for name in ("standard", "unseen", "ort")])


def rewritten(submission, change):
    """The submission whose result went through ``change(document)``, with its new digest."""
    document = copy.deepcopy(json.loads(submission.document))
    change(document)
    plain = {k: v for k, v in document.items() if k not in ("schema", "digest")}
    result = Result(**plain)
    return replace(submission, result=result, document=result.to_json())


def exchanged(submission, metric, tensors):
    """The submission with other tensors for a metric."""
    exhibits = tuple(
        replace(shown, evidence=replace(shown.evidence, tensors=tensors))
        if shown.metric == metric
        else shown
        for shown in submission.exhibits
    )
    return replace(submission, exhibits=exhibits)
