"""The graph of a run: base model, judge, unlearning, artifacts, rows.

data -> base model (shared) -> unlearn -> artifacts -> rows
     -> control (shared) -> artifacts of the control ->
     -> judge (shared) -> references (shared) -------->
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from msgm_bench.api import EvalContext, Split, Task
from msgm_bench.cache.stage import Stage
from msgm_bench.evaluation.context import eval_context
from msgm_bench.experiment.evaluation_stages import (
    ComputeReference,
    DrawArtifact,
    FitJudge,
    Score,
    base_name,
    control_name,
)
from msgm_bench.experiment.item_stages import DrawItems, EncodeItems, ItemStage
from msgm_bench.experiment.model_stage import BASE, ModelStage
from msgm_bench.experiment.plan import Plan
from msgm_bench.experiment.recording import RecordTraining, TakeRecorded, recording_of
from msgm_bench.experiment.taken_models import TakeBase, TakeChange, TakeModel
from msgm_bench.experiment.training_plan import TrainingPlan
from msgm_bench.experiment.training_stages import Train

CONTROL = "control"


@dataclass(frozen=True)
class Graph:
    """The stages of one run.

    Attributes:
        base: Makes the base model, where the method or a task needs one beside the model.
        items: Make training items in model space, where the data's own do not serve.
        model: Makes the model under evaluation.
        judge: Fits the judge.
        references: Compute what metrics need of data and judge alone, by metric.
        artifacts: Draw what tasks ask for, by task.
        rows: Scores the artifacts.
        control: Makes the model that never saw D_f, where a task has a control.
        controls: Draw from it what tasks ask for, by task.
        bases: Draw from the base what metrics compare with, by task.
        recording: Trains the model and draws samples on the way, where the request has them.
    """

    base: Stage | None
    items: tuple[ItemStage, ...]
    model: ModelStage
    judge: FitJudge
    references: Mapping[str, ComputeReference]
    artifacts: Mapping[str, DrawArtifact]
    rows: Score
    control: Stage | None = None
    controls: Mapping[str, DrawArtifact] = field(default_factory=dict)
    bases: Mapping[str, DrawArtifact] = field(default_factory=dict)
    recording: RecordTraining | None = None

    @property
    def stages(self) -> dict[str, Stage]:
        """All stages by name, in their order; the base model's is ``base``, whatever makes it.

        A model that does not start from the base comes before it, so that runs side by side train
        both at once. The control's stage is ``control``; those of its artifacts are ``control of
        TASK``, and those of the base's ``base of TASK``.
        """
        shared = {stage.name: stage for stage in (self.judge, *self.references.values())}
        base = {} if self.base is None else {BASE: self.base}
        recorded = () if self.recording is None else (self.recording,)
        models = {stage.name: stage for stage in (*self.items, *recorded, self.model)}
        starts_from_base = self.base in (self.recording or self.model).needs.values()
        models = base | models if starts_from_base else models | base
        drawn = {stage.name: stage for stage in self.artifacts.values()}
        others = set(self.artifacts.values())  # where the model is the base itself
        bases = {base_name(k): stage for k, stage in self.bases.items() if stage not in others}
        return shared | models | drawn | self._control_stages | bases | {self.rows.name: self.rows}

    @property
    def titles(self) -> dict[str, str]:
        """Names of stages in lists and logs, by key.

        A model's stage names its method; any other has its name among ``stages``.
        """
        return {
            stage.key: stage.name if isinstance(stage, ModelStage) else name
            for name, stage in self.stages.items()
        }

    @property
    def _control_stages(self) -> dict[str, Stage]:
        """The stages of the control, but for those that are the model's or the base's."""
        own = set(self.artifacts.values())
        controls = {control_name(k): v for k, v in self.controls.items() if v not in own}
        is_known = self.control in (None, self.model, self.base)
        control = {} if self.control is None or is_known else {CONTROL: self.control}
        return control | controls


def build_graph(plan: Plan) -> Graph:
    """The stages of a planned run."""
    evaluation, loaded, seed = plan.evaluation, plan.loaded, plan.spec.seeds["sample"]
    context = eval_context(plan.data, plan.targets, evaluation.judge, plan.runtime.device)
    base = _base_stage(plan)
    trained = _model_stage(plan, base)
    recording = recording_of(plan, trained, context)
    model = trained if recording is None else TakeRecorded(trained, recording)
    judge = judge_stage(plan, context)
    references = _references(plan, context, judge)
    known_base = base or _base_for_tasks(plan, model)
    control = _control_stage(plan, model)
    draw = partial(artifact_stage, plan, context=context, base=known_base, judge=judge)
    artifacts = {name: draw(task, model=model) for name, task in evaluation.tasks.items()}
    own = {model: artifacts}
    controls = _draw_from(control, plan.references.control_tasks, own, draw)
    if plan.references.control_concepts:
        control = known_base or model
        draw_other = partial(
            draw, context=replace(context, targets=plan.references.control_concepts)
        )
        controls = _draw_from(control, plan.references.control_tasks, {}, draw_other)
    bases = _draw_from(known_base, plan.references.base_tasks, own, draw)
    rows = Score(
        evaluation.metrics,
        loaded,
        seed,
        plan.runtime.measuring,
        plan.runtime.precision,
        model,
        judge,
        references,
        artifacts,
        controls,
        bases,
    )
    base = base or (None if known_base is model else known_base)
    items = trained.items if isinstance(trained, Train) else ()
    return Graph(
        base, items, model, judge, references, artifacts, rows, control, controls, bases, recording
    )


def _draw_from(
    source: ModelStage | None,
    tasks: Mapping[str, Task],
    own: Mapping[ModelStage, Mapping[str, DrawArtifact]],
    draw: Callable[..., DrawArtifact],
) -> Mapping[str, DrawArtifact]:
    """Draw tasks from another model, if there is one; nothing again of a model's ``own``."""
    if source is None:
        return {}
    drawn = own.get(source, {})
    return {name: drawn.get(name) or draw(task, model=source) for name, task in tasks.items()}


def training_stage(
    plan: Plan,
    training: TrainingPlan,
    base: ModelStage | None = None,
    saves_optimizer: bool = False,
) -> Train:
    """Train a method of the plan, or its base model."""
    return Train(
        training,
        plan.backbone,
        plan.loaded,
        plan.targets,
        plan.spec.seeds,
        plan.runtime,
        base,
        saves_optimizer,
        item_stages(plan, training, base),
    )


def item_stages(
    plan: Plan, training: TrainingPlan, base: ModelStage | None
) -> tuple[ItemStage, ...]:
    """Make the training items in model space: drawn by the base, or encoded once by its codec."""
    if base is None:
        return ()
    place = (plan.loaded, plan.runtime, base)
    if plan.encodes_once and len(plan.data.train):
        return (EncodeItems(*place),)
    drawing, book = plan.data.drawing, plan.data.prompts
    if drawing is None or book is None:
        return ()
    needs, seed = training.method.needs, plan.spec.seeds["unlearn"]
    splits: list[Split] = [s for s in ("retain", "forget") if {s, "all"} & needs]
    return tuple(DrawItems(*place, drawing, book, plan.targets, split, seed) for split in splits)


def judge_stage(plan: Plan, context: EvalContext) -> FitJudge:
    """Fit the judge of the plan."""
    return FitJudge(context, plan.loaded, plan.runtime.measuring)


def _references(plan: Plan, context: EvalContext, judge: FitJudge) -> dict[str, ComputeReference]:
    """Compute what metrics need of data and judge alone, by metric."""
    return {
        metric.name: ComputeReference(metric, context, plan.loaded, plan.runtime.measuring, judge)
        for metric in plan.evaluation.metrics
        if metric.needs_reference(context)
    }


def artifact_stage(
    plan: Plan,
    task: Task,
    context: EvalContext,
    model: ModelStage,
    base: ModelStage | None = None,
    judge: FitJudge | None = None,
) -> DrawArtifact:
    """Draw the artifact of a task, in training's precision unless the task measures."""
    runtime = plan.runtime.measuring if task.measures else plan.runtime
    seed = plan.spec.seeds["sample"]
    return DrawArtifact(
        task,
        context,
        plan.loaded,
        seed,
        runtime,
        model,
        base if task.needs_base else None,
        judge if task.needs_judge else None,
    )


def _base_stage(plan: Plan) -> ModelStage | None:
    """Make the base model, where the method needs one: train it, or take the checkpoint."""
    training = plan.training
    if training is None and plan.spec.base is not None and plan.spec.model is not None:
        assert plan.base is not None
        return TakeBase(plan.base, plan.backbone, plan.loaded)
    if training is None or not training.starts_from_base:
        return None
    if plan.base is not None:
        return TakeBase(plan.base, plan.backbone, plan.loaded)
    if training.base is None:
        return None
    return training_stage(plan, training.base, saves_optimizer=training.continues_optimizer)


def _base_for_tasks(plan: Plan, model: ModelStage) -> ModelStage | None:
    """Make the base model for tasks and metrics that look at it, where the method has none."""
    looks = any(task.needs_base for task in plan.evaluation.tasks.values())
    if not looks and not plan.references.base_tasks:
        return None
    if plan.references.base is not None:
        return training_stage(plan, plan.references.base)
    if plan.base is not None and plan.training is not None:
        return TakeBase(plan.base, plan.backbone, plan.loaded)
    return model  # it is the base model itself


def _control_stage(plan: Plan, model: ModelStage) -> ModelStage | None:
    """Make the model that never saw D_f; the model itself where its method does so."""
    if plan.references.control is None:
        return None
    control = training_stage(plan, plan.references.control)
    return model if control.key == model.key else control


def _model_stage(plan: Plan, base: ModelStage | None) -> ModelStage:
    """Make the model under evaluation: train it, or take one that is trained already."""
    if plan.training is not None:
        return training_stage(plan, plan.training, base)
    if plan.change is not None and base is not None:
        source, stats = Path(plan.spec.model or ""), plan.loaded.stats
        return TakeChange(source, plan.change, plan.backbone, stats, base)
    if plan.spec.model is None or (plan.spec.base is None and plan.base is not None):
        assert plan.base is not None
        return TakeBase(plan.base, plan.backbone, plan.loaded)
    return TakeModel(Path(plan.spec.model), plan.backbone, plan.loaded.stats, base)
