"""The graph of a cell: base model, judge, unlearning, artifacts, rows.

    data -> base model (shared) -> unlearn -> artifacts -> rows
         -> judge (shared) -> references (shared) -------->

Each stage's inputs name all that determines its outcome: options, seeds, the data's bytes, the
code of the plugin and of the ruler's packages that it runs, torch, device type, precision and
thread count; never the executor, the host or a path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from msgm_bench.api import EvalContext, Metric, ModelContext
from msgm_bench.cache.cache import Report, Stage, load_json
from msgm_bench.evaluation.artifacts import draw_artifact
from msgm_bench.evaluation.scoring import REFERENCE, looking, measured
from msgm_bench.experiment.cache_key import common
from msgm_bench.experiment.components import scene_of
from msgm_bench.experiment.model_io import load_model
from msgm_bench.experiment.plan import JUDGE_SEED, Plan, identity
from msgm_bench.experiment.pretrained_stages import foreign_stage, given_stage
from msgm_bench.experiment.training_stages import training_stage
from msgm_bench.registry import registry
from msgm_bench.storage import write_text
from msgm_bench.storage.tensors import load_tensors, save_tensors

BASE = "base"
JUDGE, JUDGE_REPORT, ROWS = "judge.safetensors", "judge.json", "rows.json"


@dataclass(frozen=True)
class Graph:
    """The stages of one cell, in the order in which they run."""

    base: Stage | None
    model: Stage
    judge: Stage
    references: Mapping[str, Stage]
    artifacts: Mapping[str, Stage]
    rows: Stage

    @property
    def stages(self) -> dict[str, Stage]:
        """All of them by name; the base model is ``base``, whatever trains it."""
        rest = [self.model, *self.artifacts.values(), self.rows]
        shared = {stage.name: stage for stage in (self.judge, *self.references.values())}
        base = {} if self.base is None else {BASE: self.base}
        return shared | base | {stage.name: stage for stage in rest}


def graph(plan: Plan) -> Graph:
    """The stages of a planned cell."""
    base = base_stage(plan)
    if plan.trained is None:
        model = given_stage(plan) if plan.given else foreign_stage(plan)
    else:
        model = training_stage(plan, plan.trained, base)
    judge = judge_stage(plan)
    references = references_of(plan, judge)
    artifacts = {name: drawing_stage(plan, name, model) for name in plan.tasks}
    rows = rows_stage(plan, model, judge, references, artifacts)
    return Graph(base, model, judge, references, artifacts, rows)


def base_stage(plan: Plan) -> Stage | None:
    """What makes the base model: its training, or taking the one that is given."""
    if plan.given and plan.trained and plan.trained.starts_from_base:
        return given_stage(plan)
    if plan.base is None:
        return None
    continued = plan.trained is not None and plan.trained.continues
    return training_stage(plan, plan.base, None, continued)


# Judging and drawing ----------------------------------------------------------------------


def judge_stage(plan: Plan) -> Stage:
    """Train the judge, which all methods and seeds share."""
    judge = plan.judge
    runtime = plan.runtime.measuring
    inputs = common(plan, "api", runtime=runtime) | {
        "judge": identity(judge) | {"weights": judge.checksum()},
        "seed": JUDGE_SEED,
    }

    def produce(work: Path, needs: Mapping[str, Path], report: Report) -> None:
        with runtime.active():
            judge.fit(plan.data, JUDGE_SEED, runtime.device)
        save_tensors(work / JUDGE, judge.state())
        write_text(work / JUDGE_REPORT, json.dumps(judge.report))

    return Stage(f"fit judge {judge.name}", inputs, produce)


def drawing_stage(plan: Plan, name: str, model: Stage) -> Stage:
    """Draw the artifact of one task, in training's precision unless it measures."""
    task = plan.tasks[name]
    runtime = plan.runtime.measuring if task.measures else plan.runtime
    used = [
        identity(registry().create(kind, *chosen)) for kind, chosen in sorted(task.uses().items())
    ]
    inputs = common(plan, "api", "diffusion", "evaluation.artifacts", runtime=runtime) | {
        "task": identity(task),
        "uses": used,
        "targets": list(plan.targets),
        "seed": plan.spec.seeds["sample"],
    }

    def produce(work: Path, needs: Mapping[str, Path], report: Report) -> None:
        examined = context(plan, needs["model"], None)
        with runtime.active():
            draw_artifact(task, examined, work, report)

    return Stage(f"draw {name}", inputs, produce, {"model": model})


def references_of(plan: Plan, judge: Stage) -> dict[str, Stage]:
    """What metrics need of data and judge alone, by metric; all models share it."""
    unfitted = scene(plan, None)
    return {
        metric.name: _reference_stage(plan, metric, judge)
        for metric in plan.metrics
        if metric.needs_reference(unfitted)
    }


def _reference_stage(plan: Plan, metric: Metric, judge: Stage) -> Stage:
    runtime = plan.runtime.measuring
    inputs = common(plan, "api", runtime=runtime) | {
        "metric": looking(metric),
        "targets": list(plan.targets),
    }

    def produce(work: Path, needs: Mapping[str, Path], report: Report) -> None:
        with runtime.active(), torch.no_grad():
            made = metric.compute_reference(scene(plan, needs["judge"]))
        save_tensors(work / REFERENCE, made)

    return Stage(f"refer {metric.name}", inputs, produce, {"judge": judge})


def rows_stage(
    plan: Plan,
    model: Stage,
    judge: Stage,
    references: Mapping[str, Stage],
    artifacts: Mapping[str, Stage],
) -> Stage:
    """Measure every metric on every task that it reads."""
    runtime = plan.runtime.measuring
    inputs = common(plan, "api", "diffusion", "evaluation.statistics", runtime=runtime) | {
        "metrics": [looking(metric) for metric in plan.metrics],
        "targets": list(plan.targets),
        "gate": plan.judge.options.gate,
    }

    def produce(work: Path, needs: Mapping[str, Path], report: Report) -> None:
        examined = context(plan, needs["model"], needs["judge"])
        with runtime.active(), torch.no_grad():
            found = measured(plan, examined, needs)
        write_text(work / ROWS, json.dumps(found, indent=1))

    referred = {f"refer {name}": stage for name, stage in references.items()}
    needs = {"model": model, "judge": judge, **referred, **artifacts}
    return Stage("measure", inputs, produce, needs)


def scene(plan: Plan, judge_folder: Path | None) -> EvalContext:
    """What there is to look at beside the model; the judge as it was fitted, if that is told."""
    device = plan.runtime.device
    if judge_folder is not None:
        plan.judge.restore(plan.data, load_tensors(judge_folder / JUDGE), device)
        plan.judge.report = load_json(judge_folder, JUDGE_REPORT)
    return scene_of(plan.data, plan.targets, plan.judge, device)


def context(plan: Plan, model_folder: Path, judge_folder: Path | None) -> ModelContext:
    """The model under evaluation with all that is shown of it."""
    seen = scene(plan, judge_folder)
    retain, forget = plan.data.split(plan.data.test, plan.targets)
    return ModelContext(
        **{field.name: getattr(seen, field.name) for field in fields(seen)},
        model=load_model(model_folder, seen.device),
        retain=retain.to(seen.device),
        forget=forget.to(seen.device),
        seed=plan.spec.seeds["sample"],
    )
