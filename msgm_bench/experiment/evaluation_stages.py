"""The stages that evaluate a model: fit the judge, draw artifacts, compute references, score."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from msgm_bench.api import Artifact, EvalContext, Evidence, Metric, ModelContext, ModelTrainer, Task
from msgm_bench.api.context import refuse_training
from msgm_bench.api.progress import ProgressCallback
from msgm_bench.cache.cache import load_json
from msgm_bench.cache.stage import Stage
from msgm_bench.evaluation.artifacts import ARTIFACT, draw_artifact
from msgm_bench.evaluation.context import eval_context, model_context
from msgm_bench.evaluation.scoring import Readings, score
from msgm_bench.experiment.cache_key import (
    common_inputs,
    metric_identity,
    plugin_identity,
    task_identity,
)
from msgm_bench.experiment.copy_trainer import CopyTrainer, remove_checkpoint
from msgm_bench.experiment.loaded_data import LoadedData
from msgm_bench.experiment.model_stage import BASE, MODEL, ModelStage
from msgm_bench.storage import write_text
from msgm_bench.storage.tensors import load_tensors, map_tensors, save_tensors
from msgm_bench.training import Runtime

JUDGE_STAGE, JUDGE, JUDGE_REPORT = "judge", "judge.safetensors", "judge.json"
REFERENCE, ROWS = "reference.safetensors", "rows.json"
JUDGE_SEED = 0  # one judge for every seed of a board


@dataclass(frozen=True, eq=False)
class FitJudge(Stage):
    """Fit the judge, which all methods and seeds share.

    Attributes:
        context: Data and judge.
        loaded: The data.
        runtime: Device; fp32.
    """

    context: EvalContext
    loaded: LoadedData
    runtime: Runtime

    @property
    def name(self) -> str:
        """``fit judge NAME``."""
        return f"fit judge {self.context.judge.name}"

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """Code, options and weights of the judge, and its seed."""
        judge = self.context.judge
        return common_inputs(self.loaded, self.runtime, "api") | {
            "judge": plugin_identity(judge) | {"weights": judge.checksum()},
            "seed": JUDGE_SEED,
        }

    def run(self, work: Path, needs: Mapping[str, Path], report: ProgressCallback) -> None:
        """Fit, and write the judge's state and its report."""
        judge = self.context.judge
        with self.runtime.active():
            judge.fit(self.context.data, JUDGE_SEED, self.runtime.device)
        save_tensors(work / JUDGE, judge.state())
        write_text(work / JUDGE_REPORT, json.dumps(judge.report))

    def restore(self, folder: Path) -> EvalContext:
        """The context with the judge as it was fitted."""
        context = self.context
        context.judge.restore(context.data, load_tensors(folder / JUDGE), context.device)
        context.judge.report = load_json(folder, JUDGE_REPORT)
        return eval_context(context.data, context.targets, context.judge, context.device)


@dataclass(frozen=True, eq=False)
class DrawArtifact(Stage):
    """Draw the artifact of a task from a model.

    Attributes:
        task: The task.
        context: Data and judge; the judge is not fitted.
        loaded: The data.
        seed: Seed of all evaluation noise.
        runtime: Device and precision: fp32 where the task measures.
        model: The stage of the model.
        base: The stage of the base model, where the task looks at it.
        judge: The stage of the judge, where the task is guided by it.
    """

    task: Task
    context: EvalContext
    loaded: LoadedData
    seed: int
    runtime: Runtime
    model: ModelStage
    base: ModelStage | None = None
    judge: FitJudge | None = None

    @property
    def name(self) -> str:
        """``draw TASK``."""
        return f"draw {self.task.name}"

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """Code and options of the task and of its sampler, D_f, seed."""
        packages = ["api", "diffusion", "evaluation.artifacts"]
        packages += ["training", "experiment.copy_trainer"] if self.task.trains else []
        return common_inputs(self.loaded, self.runtime, *packages) | {
            "task": task_identity(self.task),
            "targets": list(self.context.targets),
            "seed": self.seed,
        }

    @property
    def needs(self) -> Mapping[str, Stage]:
        """The model with the base that it is a part of; base and judge for a task's own use."""
        stages = {BASE: self.base, JUDGE_STAGE: self.judge}
        return self.model.files | {name: s for name, s in stages.items() if s is not None}

    @property
    def shared_on(self) -> str | None:
        """The device's type; a task that trains copies of the model has no items to share."""
        return None if self.task.trains else self.runtime.device.type

    def run(self, work: Path, needs: Mapping[str, Path], report: ProgressCallback) -> None:
        """Draw chunk by chunk."""
        context = self._context(work, needs)
        with self.runtime.active():
            draw_artifact(self.task, context, work, report)
        remove_checkpoint(work)

    def _context(self, work: Path, needs: Mapping[str, Path]) -> ModelContext:
        """The model with what else the task looks at."""
        device = self.context.device
        model, base = self.model.load(needs, device), None
        if self.base is not None:
            base = self.base.load({MODEL: needs[BASE]}, device).requires_grad_(False)
        seen = self.context if self.judge is None else self.judge.restore(needs[JUDGE_STAGE])
        trainer: ModelTrainer = refuse_training
        if self.task.trains:
            trainer = CopyTrainer(model, work, self.runtime, self.context.data.flip)
        return model_context(seen, model, self.seed, base, trainer)


@dataclass(frozen=True, eq=False)
class ComputeReference(Stage):
    """Compute what a metric needs of data and judge alone; all models share it.

    Attributes:
        metric: The metric.
        context: Data and judge.
        loaded: The data.
        runtime: Device; fp32.
        judge: The stage of the judge.
    """

    metric: Metric
    context: EvalContext
    loaded: LoadedData
    runtime: Runtime
    judge: FitJudge

    @property
    def name(self) -> str:
        """``refer METRIC``."""
        return f"refer {self.metric.name}"

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """Code, options and embedders of the metric, and D_f."""
        return common_inputs(self.loaded, self.runtime, "api") | {
            "metric": metric_identity(self.metric),
            "targets": list(self.context.targets),
        }

    @property
    def needs(self) -> Mapping[str, Stage]:
        """The judge."""
        return {JUDGE_STAGE: self.judge}

    def run(self, work: Path, needs: Mapping[str, Path], report: ProgressCallback) -> None:
        """Compute, and write the tensors."""
        with self.runtime.active(), torch.no_grad():
            reference = self.metric.compute_reference(self.judge.restore(needs[JUDGE_STAGE]))
        save_tensors(work / REFERENCE, reference)


@dataclass(frozen=True, eq=False)
class Score(Stage):
    """Measure every metric on every task that it reads.

    Attributes:
        metrics: The metrics.
        loaded: The data.
        seed: Seed of all evaluation noise.
        runtime: Device; fp32.
        precision: Precision in which samples were drawn, for protocols.
        model: The stage of the model.
        judge: The stage of the judge.
        references: The stages of the metrics' references, by metric.
        artifacts: The stages of the tasks' artifacts, by task.
        controls: The stages of artifacts from the control, by task.
        bases: The stages of artifacts from the base model, by task.
    """

    metrics: tuple[Metric, ...]
    loaded: LoadedData
    seed: int
    runtime: Runtime
    precision: str
    model: ModelStage
    judge: FitJudge
    references: Mapping[str, ComputeReference]
    artifacts: Mapping[str, DrawArtifact]
    controls: Mapping[str, DrawArtifact]
    bases: Mapping[str, DrawArtifact]

    @property
    def name(self) -> str:
        """``measure``."""
        return "measure"

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """Code, options and embedders of all metrics, D_f, and the judge's gate."""
        context = self.judge.context
        return common_inputs(self.loaded, self.runtime, "api", "diffusion", "evaluation") | {
            "metrics": [metric_identity(metric) for metric in self.metrics],
            "targets": list(context.targets),
            "gate": context.judge.options.gate,
        }

    @property
    def needs(self) -> Mapping[str, Stage]:
        """Model, judge, references and artifacts, these two by the names of their stages.

        Artifacts of the control are known as ``control of TASK``, the base's as ``base of TASK``.
        """
        others = (*self.references.values(), *self.artifacts.values())
        stages = {stage.name: stage for stage in others}
        controls = {control_name(task): stage for task, stage in self.controls.items()}
        bases = {base_name(task): stage for task, stage in self.bases.items()}
        return {**self.model.files, JUDGE_STAGE: self.judge, **stages, **controls, **bases}

    def run(self, work: Path, needs: Mapping[str, Path], report: ProgressCallback) -> None:
        """Measure, and write rows and protocols."""
        readings = self._readings(needs)
        with self.runtime.active(), torch.no_grad():
            scores = score(readings, self.precision)
        write_text(work / ROWS, json.dumps(scores.record(), indent=1))

    def evidence(
        self, needs: Mapping[str, Path], full: bool = False
    ) -> Iterator[tuple[Metric, Evidence]]:
        """What the rows follow from, where a metric has such tensors (``Metric.evidence``)."""
        readings = self._readings(needs)
        with self.runtime.active(), torch.no_grad():
            for metric, seen, task in readings:
                evidence = metric.gather(seen, task, readings.artifact(task.name), full)
                if evidence.tensors:
                    yield metric, evidence

    def _readings(self, needs: Mapping[str, Path]) -> Readings:
        """The model, the judge and what was drawn."""
        judged = self.judge.restore(needs[JUDGE_STAGE])

        def drawn(name: str) -> Artifact:
            return map_tensors(needs[name] / ARTIFACT)

        references = {k: needs[stage.name] / REFERENCE for k, stage in self.references.items()}
        return Readings(
            self.metrics,
            {name: stage.task for name, stage in self.artifacts.items()},
            model_context(judged, self.model.load(needs, judged.device), self.seed),
            artifact=lambda task: drawn(self.artifacts[task].name),
            reference=lambda name: load_tensors(references[name]) if name in references else {},
            control=lambda task: drawn(control_name(task)) if task in self.controls else {},
            base_artifact=lambda task: drawn(base_name(task)),
        )


def control_name(task: str) -> str:
    """Name of the stage that draws a task's artifact from the control."""
    return f"control of {task}"


def base_name(task: str) -> str:
    """Name of the stage that draws a task's artifact from the base model."""
    return f"base of {task}"
