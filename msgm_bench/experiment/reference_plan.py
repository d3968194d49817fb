"""What a run trains beside its method, because tasks look at it: the base model and the control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgm_bench.api import Data, Model, Task, merge
from msgm_bench.experiment.components import parse_settings, preset_of
from msgm_bench.experiment.evaluation_plan import EvaluationPlan, tasks_of
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.experiment.training_plan import TrainingPlan, plan_base, plan_control


@dataclass(frozen=True)
class ReferencePlan:
    """Models that tasks compare the method's model with.

    Attributes:
        base: How the base model trains, where a task looks at it and the method has none.
        control: How the model that never saw D_f trains, where a task has a control.
        control_tasks: The tasks that have a control, with the options of the control's own run.
    """

    base: TrainingPlan | None = None
    control: TrainingPlan | None = None
    control_tasks: Mapping[str, Task] = field(default_factory=dict)


def plan_references(
    spec: RunSpec,
    evaluation: EvaluationPlan,
    data: Data,
    model: Model,
    training: TrainingPlan | None,
    preset: str,
    layers: Sequence[Mapping[str, Any]],
) -> ReferencePlan:
    """What is trained beside the method.

    A given base and a stored model have no control, for their training data are not those of the
    run; nor have data without items.

    Args:
        spec: The request.
        evaluation: The tasks.
        data: The dataset.
        model: The model without its weights.
        training: How the method trains.
        preset: Name of the preset.
        layers: Contributions to the preset of all but the method.

    Raises:
        UsageError: A base is needed and no method trains base models.
    """
    tasks = evaluation.tasks.values()
    trains = spec.model is None and spec.base is None and training is not None
    if not trains or not any(task.needs_base or task.has_control for task in tasks):
        return ReferencePlan()
    assert training is not None
    has_base = training.base is not None or training.method.trains_base
    needs_base = any(task.needs_base for task in tasks)
    base = plan_base(spec, preset, layers) if needs_base and not has_base else None
    control = plan_control(spec, preset, layers) if len(data.train) else None
    names = [task.name for task in tasks if task.has_control]
    if control is None or not names:
        return ReferencePlan(base)
    return ReferencePlan(base, control, _control_tasks(names, control, spec, model, preset, layers))


def _control_tasks(
    names: Sequence[str],
    control: TrainingPlan,
    spec: RunSpec,
    model: Model,
    preset: str,
    layers: Sequence[Mapping[str, Any]],
) -> dict[str, Task]:
    """The tasks as in a run of the control: a method's own sampler does not draw from it."""
    settings = parse_settings(merge(*layers, preset_of(type(control.method), preset, spec.text)))
    tasks = tasks_of(spec, settings, control.method.required_task_options())
    return {name: tasks[name].with_model_defaults(model) for name in names}
