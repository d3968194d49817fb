"""The task whose samples are drawn along a training."""

from __future__ import annotations

from typing import cast

from msgm_bench.api import Task
from msgm_bench.errors import IncompatibleError
from msgm_bench.experiment.components import create
from msgm_bench.experiment.evaluation_plan import EvaluationPlan

IMAGES, POINTS = 20, 1000  # samples of a set


def recorded_task(evaluation: EvaluationPlan, shape: tuple[int, ...]) -> Task:
    """The task whose samples are recorded, such that it draws few: the one that ranks, if it can.

    Args:
        evaluation: Tasks and metrics of the run.
        shape: Shape of an item: images or points.

    Raises:
        IncompatibleError: No task of the run draws samples that make a picture.
    """
    ranking = sorted(
        (column.position, metric.name, metric.tasks)
        for metric in evaluation.metrics
        for column in metric.columns
        if column.ranks
    )
    order = [name for _, _, names in ranking for name in names] + list(evaluation.tasks)
    tasks = (evaluation.tasks[name] for name in order if name in evaluation.tasks)
    task = next((task for task in tasks if _makes_pictures(task)), None)
    if task is None:
        raise IncompatibleError(
            "--record-samples of a run in which no task draws pictures from the model alone",
            "a task with `preview`, such as those that the metrics of `list metrics` read",
            "leave out --record-samples",
        )
    limits = task.options.limit_samples(POINTS if len(shape) == 1 else IMAGES)
    return cast(Task, create(type(task), {}, {**task.options.model_dump(), **limits}))


def _makes_pictures(task: Task) -> bool:
    needs_more = task.measures or task.trains or task.needs_base or task.needs_judge
    return not needs_more and type(task).preview is not Task.preview
