"""Provenance of a result: command, versions, code, data, hardware, times."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shlex
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from msgm_bench import __version__
from msgm_bench.api import Track, join_names
from msgm_bench.cache.entry import Entry
from msgm_bench.cache.fingerprint import plugin_source, source_of
from msgm_bench.experiment.model_card import is_foreign
from msgm_bench.experiment.plan import Plan
from msgm_bench.experiment.recording import RECORD
from msgm_bench.experiment.request_options import write_options
from msgm_bench.experiment.requested_tasks import without_skipped_tasks
from msgm_bench.experiment.skipped import reasons
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.experiment.training_stages import LOG
from msgm_bench.registry import kind_of, registry

FLAGS = {
    "-p": "params",
    "--training": "training_params",
    "-b": "backbone_params",
    "-d": "dataset_params",
    "-t": "task_params",
    "-m": "metric_params",
    "-j": "judge_params",
}
TRACK_FLAGS: Mapping[Track, list[str]] = {
    "unconditional": [],
    "class": ["--conditional"],
    "text": ["--text"],
}
CORE = ("api", "diffusion", "training", "evaluation", "experiment", "execution", "runner")
PACKAGES = ("torch", "diffusers", "torchdiffeq", "numpy", "scipy", "scikit-learn")


def provenance(plan: Plan, entries: Mapping[str, Entry]) -> dict[str, Any]:
    """The facts that a reader needs to repeat a result."""
    # a recorded training has its passes and its time under the name of the training
    own = {name: entry for name, entry in entries.items() if not name.startswith(RECORD)}
    seconds = {name: entry.seconds for name, entry in own.items()}
    return {
        "command": rerun_command(plan.spec, reasons(plan.evaluation.skipped, "tasks")),
        "versions": {"msgm-bench": __version__, "python": platform.python_version()}
        | package_versions(),
        "plugins": plugin_origins(plan),
        "code": code_digests(plan),
        "git_commit": git_commit(),
        "dataset_fingerprint": plan.loaded.fingerprint,
        "skipped": [asdict(skipped) for skipped in plan.evaluation.skipped],
        "limits": plan.evaluation.limits.record(),
        "stages": {name: entry.path.name for name, entry in entries.items()},
        **({} if plan.base is None else {"base": asdict(plan.base)}),
        "seeds": plan.spec.seeds,
        "hardware": plan.runtime.hardware(),
        "passes": training_passes(own),
        "seconds": seconds,
        "wall_seconds": round(sum(seconds.values()), 3),
    }


def training_passes(entries: Mapping[str, Entry]) -> dict[str, float]:
    """Passes of every training, by stage: batches forward and backward through a network."""
    logs = {name: entry.path / LOG for name, entry in entries.items()}
    last = {
        name: log.read_text("utf-8").splitlines()[-1] for name, log in logs.items() if log.exists()
    }
    return {name: json.loads(row)["passes"] for name, row in last.items()}


def package_versions() -> dict[str, str]:
    """Versions of the packages that determine numbers."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def plugin_origins(plan: Plan) -> dict[str, str]:
    """Distribution of the run's plugins, by ``kind/name``."""
    names = {"datasets": plan.spec.dataset, "backbones": plan.spec.backbone}
    names |= {"judges": plan.evaluation.judge.name}
    if plan.training is not None:
        names["methods"] = plan.spec.method
    return {
        f"{kind}/{name}": str(registry().entry(kind, name).provenance)
        for kind, name in names.items()
    }


def code_digests(plan: Plan) -> dict[str, str]:
    """SHA-256 of the code that determines the values: the core, and each plugin by ``kind/name``.

    Digests are of the syntax trees, so comments, docstrings and layout do not count.
    """
    evaluation = plan.evaluation
    names = {("datasets", plan.spec.dataset), ("backbones", plan.spec.backbone)}
    names |= {("judges", evaluation.judge.name)}
    names |= {("methods", training.method.name) for training in plan.trainings}
    names |= {("tasks", name) for name in evaluation.tasks}
    names |= {("metrics", metric.name) for metric in evaluation.metrics}
    uses = [task.uses() for task in evaluation.tasks.values()]
    uses += [metric.uses() for metric in evaluation.metrics]
    names |= {(kind_of(role), name) for helpers in uses for role, (name, _) in helpers.items()}
    names |= set() if plan.data.drawing is None else {("samplers", plan.data.drawing.sampler)}
    plugins = {
        f"{kind}/{name}": plugin_source(registry().entry(kind, name).cls)
        for kind, name in sorted(names)
    }
    return {"core": source_of(*(f"msgm_bench.{package}" for package in CORE))} | plugins


def git_commit() -> str | None:
    """Commit of the benchmark's checkout, ``-dirty`` with changes; None outside one."""
    try:
        _git("ls-files", "--error-unmatch", __file__)
        return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or None
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    process = subprocess.run(
        ["git", *arguments],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return process.stdout.strip()


def rerun_command(spec: RunSpec, skipped_tasks: Collection[str] = ()) -> str:
    """The command that repeats the run; options of one kind in the order of their names.

    It does not request ``skipped_tasks``: a run that does none of what it requests is refused.
    """
    spec = without_skipped_tasks(spec, skipped_tasks)
    is_run = spec.model is None or is_foreign(Path(spec.model))
    options: list[str] = []
    if spec.model is None:
        options += ["run", "--method", spec.method]
    else:
        options += ["evaluate", spec.model]
    options += ["--dataset", spec.dataset, "--forget", join_names(spec.forget)]
    options += ["--backbone", spec.backbone] if is_run else []
    options += TRACK_FLAGS[spec.track] if is_run else []
    scalars = ("preset", "regime", "steps", "passes", "samples", "record_samples")
    seeds = ("train_seed", "unlearn_seed", "sample_seed")
    for name in ("base", "seed", *scalars, *seeds, "device", "precision", "threads"):
        value = getattr(spec, name)
        if name == "seed" or value != RunSpec.model_fields[name].default:
            options += [f"--{name.replace('_', '-')}", str(value)]
    options += ["--compile"] if spec.compile else []
    options += [word for name in spec.tasks for word in ("--task", name)]
    flags = {field: flag for flag, field in FLAGS.items()}
    if spec.model is not None:
        del flags["params"], flags["training_params"]
    if not is_run:
        del flags["backbone_params"]
    for field, flag in flags.items():
        for key, text in sorted(write_options(spec.model_dump(), field).items()):
            options += [flag, f"{key}={text}"]
    return shlex.join(["msgm-bench", *options])
