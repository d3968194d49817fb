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
from typing import Any

import torch

from msgm_bench.api import Examples, Metric, Model, Scene, Split, Subject
from msgm_bench.diffusion import derive_seed
from msgm_bench.errors import DivergenceError
from msgm_bench.evaluation.artifacts import draw_artifact
from msgm_bench.pipeline.cache import Report, Stage, load_json
from msgm_bench.pipeline.fingerprint import source_of
from msgm_bench.pipeline.limits import Limits
from msgm_bench.pipeline.measuring import REFERENCE, looking, measured
from msgm_bench.pipeline.modelfile import load_model, save_model
from msgm_bench.pipeline.plan import JUDGE_SEED, Plan, Trained, identity
from msgm_bench.pipeline.suite import scene_of
from msgm_bench.pipeline.taken import foreign_stage, given_stage
from msgm_bench.registry import registry
from msgm_bench.storage import write_text
from msgm_bench.storage.tensors import load_tensors, save_tensors
from msgm_bench.training import Feed, Trainer
from msgm_bench.training.checkpoint import NAME as CHECKPOINT

BASE, OPTIMIZER = "base", "optimizer.safetensors"
LOG, JUDGE, JUDGE_REPORT, ROWS = "train.jsonl", "judge.safetensors", "judge.json", "rows.json"


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


def common(plan: Plan, *packages: str) -> dict[str, Any]:
    """What every stage depends on."""
    return {
        "data": plan.loaded.fingerprint,
        "runtime": plan.runtime.determinants(),
        "ruler": source_of(*(f"msgm_bench.{package}" for package in packages)),
    }


# Training ---------------------------------------------------------------------------------


def training_stage(
    plan: Plan, trained: Trained, base: Stage | None, continued: bool = False
) -> Stage:
    """Train a method: from fresh weights, or from the base model's.

    Where it is to be ``continued`` by another training, its optimiser's state stays in its folder.
    """
    method, seeds = trained.method, plan.spec.seeds
    wanted = sorted(method.needs - {"base"})
    inputs = common(plan, "api", "diffusion", "training") | {
        "backbone": identity(plan.backbone),
        "method": identity(method),
        "regime": trained.regime,
        "budget": trained.budget.model_dump(),
        "targets": [] if wanted == ["all"] else list(plan.targets),
        "classes": plan.loaded.info.classes,
        "seed_weights": seeds["train"],
        "seed": seeds["train"] if method.baseline else seeds["unlearn"],
        **({"continued": True} if continued else {}),
    }

    def produce(work: Path, needs: Mapping[str, Path], report: Report) -> None:
        _train(plan, trained, inputs["seed"], work, needs.get("base"), report, continued)

    needs = {} if base is None else {"base": base}
    length = trained.budget.passes or trained.budget.steps
    return Stage(f"train {method.name}", inputs, produce, needs, length)


def _train(
    plan: Plan,
    trained: Trained,
    seed: int,
    work: Path,
    base_folder: Path | None,
    report: Report,
    continued: bool,
) -> None:
    trainer = _trainer(plan, trained, seed, base_folder)

    def store_optimizer() -> None:
        save_tensors(work / OPTIMIZER, trainer.continuation())

    try:
        trainer.run(work, report, store_optimizer if continued else None)
    except DivergenceError:
        (work / CHECKPOINT).unlink(missing_ok=True)  # it leads to the same end
        raise
    finally:
        rows = (json.dumps(_finite(row)) + "\n" for row in trainer.log.rows)
        write_text(work / LOG, "".join(rows))
    limits = Limits.of(trained.method)
    save_model(work, trainer.model, plan.backbone, plan.loaded.info, limits)
    (work / CHECKPOINT).unlink(missing_ok=True)


def _trainer(plan: Plan, trained: Trained, seed: int, base_folder: Path | None) -> Trainer:
    """All that is trained and that it is trained with, before the first step."""
    device = plan.runtime.device
    model = _fresh(plan)
    base = None if base_folder is None else load_model(base_folder, device)
    if base is not None:
        base.requires_grad_(False)
        if trained.regime == "finetune":
            model.network.load_state_dict(base.network.state_dict())
    plan.runtime.place(model)
    splits = _splits(plan, trained, device)
    budget, flip = trained.budget, plan.data.flip
    stream = derive_seed(seed, "training")
    feed = Feed(splits, model, stream, budget.batch_size, flip, budget.unconditional)
    labels = plan.data.labels(plan.targets)
    trainer = Trainer(model, trained.method, feed, budget, plan.runtime, seed, base, labels)
    if trained.continues and base_folder is not None:
        trainer.continue_from(load_tensors(base_folder / OPTIMIZER))
    return trainer


def _fresh(plan: Plan) -> Model:
    """New weights from the training seed, drawn on the CPU whatever the device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(plan.spec.seeds["train"], "weights"))
        return plan.backbone.build(plan.loaded.info)


def _splits(plan: Plan, trained: Trained, device: torch.device) -> dict[Split, Examples]:
    data = plan.data
    retain, forget = data.split(data.train, plan.targets)
    splits: dict[Split, Examples] = {"all": data.train, "retain": retain, "forget": forget}
    return {k: v.to(device) for k, v in splits.items() if k in trained.method.needs}


def _finite(row: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {k: v if abs(v) < float("inf") else None for k, v in row.items()}


# Judging and drawing ----------------------------------------------------------------------


def judge_stage(plan: Plan) -> Stage:
    """Train the judge, which all methods and seeds share."""
    judge = plan.judge
    inputs = common(plan, "api") | {
        "judge": identity(judge) | {"weights": judge.checksum()},
        "seed": JUDGE_SEED,
    }

    def produce(work: Path, needs: Mapping[str, Path], report: Report) -> None:
        judge.fit(plan.data, JUDGE_SEED, plan.runtime.device)
        save_tensors(work / JUDGE, judge.state())
        write_text(work / JUDGE_REPORT, json.dumps(judge.report))

    return Stage(f"fit judge {judge.name}", inputs, produce)


def drawing_stage(plan: Plan, name: str, model: Stage) -> Stage:
    """Draw the artifact of one task."""
    task = plan.tasks[name]
    used = [
        identity(registry().create(kind, *chosen)) for kind, chosen in sorted(task.uses().items())
    ]
    inputs = common(plan, "api", "diffusion", "evaluation.artifacts") | {
        "task": identity(task),
        "uses": used,
        "targets": list(plan.targets),
        "seed": plan.spec.seeds["sample"],
    }

    def produce(work: Path, needs: Mapping[str, Path], report: Report) -> None:
        examined = subject(plan, needs["model"], None)
        with plan.runtime.active():
            draw_artifact(task, examined, work, report)

    return Stage(f"draw {name}", inputs, produce, {"model": model})


def references_of(plan: Plan, judge: Stage) -> dict[str, Stage]:
    """What metrics need of data and judge alone, by metric; all models share it."""
    unfitted = scene(plan, None)
    return {
        metric.name: _reference_stage(plan, metric, judge)
        for metric in plan.metrics
        if metric.refers(unfitted)
    }


def _reference_stage(plan: Plan, metric: Metric, judge: Stage) -> Stage:
    inputs = common(plan, "api") | {"metric": looking(metric), "targets": list(plan.targets)}

    def produce(work: Path, needs: Mapping[str, Path], report: Report) -> None:
        with plan.runtime.active(), torch.no_grad():
            made = metric.refer(scene(plan, needs["judge"]))
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
    inputs = common(plan, "api", "diffusion", "evaluation.statistics") | {
        "metrics": [looking(metric) for metric in plan.metrics],
        "targets": list(plan.targets),
        "gate": plan.judge.config.gate,
    }

    def produce(work: Path, needs: Mapping[str, Path], report: Report) -> None:
        examined = subject(plan, needs["model"], needs["judge"])
        with plan.runtime.active(), torch.no_grad():
            found = measured(plan, examined, needs)
        write_text(work / ROWS, json.dumps(found, indent=1))

    referred = {f"refer {name}": stage for name, stage in references.items()}
    needs = {"model": model, "judge": judge, **referred, **artifacts}
    return Stage("measure", inputs, produce, needs)


def scene(plan: Plan, judge_folder: Path | None) -> Scene:
    """What there is to look at beside the model; the judge as it was fitted, if that is told."""
    device = plan.runtime.device
    if judge_folder is not None:
        plan.judge.restore(plan.data, load_tensors(judge_folder / JUDGE), device)
        plan.judge.report = load_json(judge_folder, JUDGE_REPORT)
    return scene_of(plan.data, plan.targets, plan.judge, device)


def subject(plan: Plan, model_folder: Path, judge_folder: Path | None) -> Subject:
    """The model under evaluation with all that is shown of it."""
    seen = scene(plan, judge_folder)
    retain, forget = plan.data.split(plan.data.test, plan.targets)
    return Subject(
        **{field.name: getattr(seen, field.name) for field in fields(seen)},
        model=load_model(model_folder, seen.device),
        retain=retain.to(seen.device),
        forget=forget.to(seen.device),
        seed=plan.spec.seeds["sample"],
    )
