"""Tasks that a request names: at least one run of a grid must do each of them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import cast

from msgm_bench.api import Task
from msgm_bench.errors import UsageError, did_you_mean, joined
from msgm_bench.experiment.evaluation_plan import plan_evaluation
from msgm_bench.experiment.model_io import skeleton
from msgm_bench.experiment.plan import Plan
from msgm_bench.experiment.skipped import reasons
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.launch import leads
from msgm_bench.registry import registry
from msgm_bench.storage import single_line

log = logging.getLogger(__name__)


def check_requested_tasks(plans: Sequence[Plan], allow_skipped: bool = False) -> None:
    """Refuse requested tasks that no run does; warn of those that some runs do not.

    Runs whose method is skipped do not count: they do no task at all.

    Args:
        plans: The runs of a grid.
        allow_skipped: Whether a task that no run does is a warning, too.

    Raises:
        UsageError: A requested task is skipped in all runs that request it.
    """
    requests = _runs_by_task(plans)
    refused = [] if allow_skipped else [n for n, runs in requests.items() if _is_skipped(n, runs)]
    if refused:
        raise joined([_refusal(name, requests[name]) for name in refused])
    if leads():
        for name, runs in requests.items():
            for reason, methods in _methods_by_reason(name, runs).items():
                text = f"the task {name} is skipped for {', '.join(methods)}: {reason}"
                log.warning("%s", single_line(text))


def without_skipped_tasks(spec: RunSpec, skipped: Collection[str]) -> RunSpec:
    """The same run without requests of tasks that are skipped, and without their options."""
    dropped = set(spec.tasks) & set(skipped)
    if not dropped:
        return spec
    tasks = tuple(name for name in spec.tasks if name not in dropped)
    params = {name: own for name, own in spec.task_params.items() if name not in dropped}
    return spec.model_copy(update={"tasks": tasks, "task_params": params})


def _runs_by_task(plans: Sequence[Plan]) -> Mapping[str, list[Plan]]:
    """The runs that request a task, by the task's name; those of skipped methods do not count."""
    runs = [plan for plan in plans if plan.skipped is None]
    names = sorted({name for plan in runs for name in plan.spec.tasks})
    return {name: [plan for plan in runs if name in plan.spec.tasks] for name in names}


def _is_skipped(task: str, runs: Sequence[Plan]) -> bool:
    """Whether all runs skip a task."""
    return all(task in reasons(plan.evaluation.skipped, "tasks") for plan in runs)


def _methods_by_reason(task: str, runs: Sequence[Plan]) -> Mapping[str, list[str]]:
    """Each reason to skip a task, with the methods that it holds for."""
    methods: dict[str, list[str]] = {}
    for plan in runs:
        reason = reasons(plan.evaluation.skipped, "tasks").get(task)
        if reason is not None and plan.spec.method not in methods.setdefault(reason, []):
            methods[reason].append(plan.spec.method)
    return methods


def _refusal(task: str, runs: Sequence[Plan]) -> UsageError:
    """The error about a task that all runs skip, with the tasks on request that they can do."""
    skips = _methods_by_reason(task, runs)
    why = [
        reason if len(skips) == 1 else f"{', '.join(methods)}: {reason}"
        for reason, methods in skips.items()
    ]
    suitable = sorted({name for plan in _one_of_each(runs) for name in _suitable_tasks(plan)})
    return UsageError(
        f"the task {task!r} is skipped in every run{did_you_mean(task, suitable)}: "
        + single_line("; ".join(why)),
        f"--task {', '.join(suitable)}" if suitable else "no --task: these runs can do none",
        f"leave --task {task} out",
    )


def _one_of_each(runs: Sequence[Plan]) -> Iterator[Plan]:
    """One run of each method and backbone: seeds change nothing about which tasks suit."""
    yield from {(plan.spec.method, plan.spec.backbone): plan for plan in runs}.values()


def _suitable_tasks(plan: Plan) -> Iterator[str]:
    """The tasks on request that a run can do, with their own options."""
    model = skeleton(plan.backbone, plan.loaded.stats)
    for entry in registry().entries("tasks"):
        cls = cast(type[Task], entry.cls)
        if not cls.on_request:
            continue
        spec = plan.spec.model_copy(update={"tasks": (cls.name,), "task_params": {}})
        runtime, limits = plan.runtime, plan.evaluation.limits
        try:
            evaluation = plan_evaluation(
                spec, plan.settings, plan.loaded, plan.targets, model, limits, runtime.device
            )
        except Exception:  # noqa: BLE001 - a task that cannot be planned is none to suggest
            continue
        if cls.name in evaluation.tasks:
            yield cls.name
