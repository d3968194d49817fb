"""What a run trains beside its method, because tasks look at it: the base model and the control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgm_bench.api import Data, Method, Model, Task, merge
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
        base_tasks: The tasks whose artifacts metrics compare with the base's, with its options.
        control_concepts: Concepts that the given base does not know: tasks have their control on
            the base with these in the place of D_f, where there is no control that trains.
    """

    base: TrainingPlan | None = None
    control: TrainingPlan | None = None
    control_tasks: Mapping[str, Task] = field(default_factory=dict)
    base_tasks: Mapping[str, Task] = field(default_factory=dict)
    control_concepts: tuple[int, ...] = ()


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

    A given base and a stored model have no model that never saw D_f, for their training data are
    not those of the run; nor have data without items. A given base has its control on concepts that
    it does not know, where the prompts name any.

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

    def tasks_as_of(method: Method | None, names: Sequence[str]) -> dict[str, Task]:
        """The tasks as in a run of ``method``: the run's own sampler does not draw from it."""
        if not names:
            return {}
        own = {} if method is None else preset_of(type(method), preset, spec.text)
        required = {} if method is None else method.required_task_options(model)
        made = tasks_of(spec, parse_settings(merge(*layers, own)), required)
        return {name: made[name].with_model_defaults(model) for name in names}

    compared = evaluation.tasks_compared_with_base
    needs_base = bool(compared) or any(task.needs_base for task in tasks)
    if spec.base is not None and spec.model is None and data.prompts is not None:
        unknown = data.prompts.unknown_concepts
        names = [task.name for task in tasks if task.has_concept_control and unknown]
        controls, bases = tasks_as_of(None, names), tasks_as_of(None, compared)
        return ReferencePlan(None, None, controls, bases, unknown if names else ())
    if spec.model is not None or spec.base is not None or training is None:
        return ReferencePlan(base_tasks=tasks_as_of(None, compared))
    has_base = training.base is not None or training.method.trains_base
    base = plan_base(spec, preset, layers) if needs_base and not has_base else None
    base_method = (base or training.base or training).method
    base_tasks = tasks_as_of(base_method, compared)
    names = [task.name for task in tasks if task.has_control]
    control = plan_control(spec, preset, layers) if names and len(data.train) else None
    control_tasks = {} if control is None else tasks_as_of(control.method, names)
    return ReferencePlan(base, control, control_tasks, base_tasks)
