"""Estimates: what a run trains, draws and measures, and how long it takes, before it begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from msgm_bench.api import PROMPT_GROUPS, Examples, Model, ModelContext, Task
from msgm_bench.estimate.placeholder_data import KnownData, known_data
from msgm_bench.estimate.records import MetricInfo, RunEstimate, TaskEstimate, TrainingEstimate
from msgm_bench.estimate.timing import with_times
from msgm_bench.evaluation.context import eval_context
from msgm_bench.experiment.evaluation_plan import null_metrics
from msgm_bench.experiment.model_io import skeleton
from msgm_bench.experiment.plan import Plan, resolve_on_data
from msgm_bench.experiment.pretrained import regimes_of
from msgm_bench.experiment.skipped import reasons
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.experiment.training_plan import TrainingPlan, training_in_regime
from msgm_bench.registry import registry
from msgm_bench.training import Runtime


def estimate_run(spec: RunSpec, measure: bool = True) -> RunEstimate:
    """Estimate of a run; trains nothing and downloads nothing.

    Args:
        spec: The request. Without ``forget``, sizes that depend on it are bounds; without
            ``method``, the estimate has the budgets of all methods.
        measure: Whether to time real steps and evaluations on the device.

    Raises:
        UsageError: The request is wrong.
        StorageError: The data are not here, and the shape of their items is unpublished.
    """
    runtime = Runtime.select(spec.device, spec.precision, spec.compile, spec.threads)
    registry().entry("backbones", spec.backbone)
    known = known_data(spec)
    data = known.loaded.data
    targets = data.targets(spec.forget) if spec.forget else (0,)  # one class stands for any
    changes = [{}] if spec.method else all_methods()
    plans = [
        resolve_on_data(
            spec.model_copy(update=change), runtime, known.loaded, targets, download=False
        )
        for change in changes
    ]
    plan = next((p for p in plans if p.training and p.training.method.trains_base), plans[0])
    trainings = training_estimates(spec, plans)
    estimate = describe_run(spec, plan, known)
    estimate = replace(
        estimate,
        training=[training for _, training in trainings],
        skipped={
            **estimate.skipped,
            **reasons(p.skipped for p in plans if p.skipped is not None),
        },
    )
    return with_times(estimate, plan, [first for first, _ in trainings]) if measure else estimate


def all_methods() -> list[dict[str, Any]]:
    """Changes of the request: each installed method, in the regime that it prefers."""
    return [{"method": name, "regime": None} for name in registry().names("methods")]


def describe_run(spec: RunSpec, plan: Plan, known: KnownData) -> RunEstimate:
    """Estimate without budgets and times."""
    data, evaluation = plan.data, plan.evaluation
    missing = reasons(null_metrics(evaluation.metrics, evaluation.judge))
    model = skeleton(plan.backbone, plan.loaded.stats)
    return RunEstimate(
        dataset=spec.dataset,
        backbone=spec.backbone,
        method=spec.method,
        preset=plan.preset,
        forget=[data.classes[target] for target in plan.targets] if spec.forget else [],
        data_is_local=known.is_local,
        data=data_record(plan, known),
        network={
            "class": type(model.network).__name__,
            "parameters": sum(weights.numel() for weights in model.network.parameters()),
            "options": plan.backbone.options.model_dump(mode="json"),
        },
        process=process_record(plan, known),
        training=[],
        judge={
            "name": evaluation.judge.name,
            "options": evaluation.judge.options.model_dump(mode="json"),
        },
        tasks=[task_estimate(task, plan, model, known) for task in evaluation.tasks.values()],
        metrics=[
            MetricInfo(
                metric.name,
                [name for name in metric.tasks if name in evaluation.tasks],
                metric.options.model_dump(mode="json"),
                missing.get(metric.name, ""),
            )
            for metric in evaluation.metrics
        ],
        skipped=reasons(evaluation.skipped),
        base="" if plan.base is None else str(plan.base),
        hardware=plan.runtime.hardware(),
    )


def data_record(plan: Plan, known: KnownData) -> dict[str, Any]:
    """Shape, grey levels, numbers of items, classes, prompts, and remarks on the files."""
    data = plan.data
    train, test = known.sizes
    return {
        "shape": list(data.shape),
        "levels": data.levels,
        "train": train,
        "test": test,
        "classes": len(data.classes),
        "counts": data.counts() if known.is_local else dict.fromkeys(data.classes, ()),
        "prompts": prompt_counts(plan) if known.is_local else {},
        "remarks": list(data.remarks),
    }


def prompt_counts(plan: Plan) -> dict[str, int]:
    """Numbers of captions and of the prompts that test a model, by group; empty without prompts.

    Where the request names nothing to forget, of all that have the group in the book.
    """
    book = plan.data.prompts
    if book is None:
        return {}
    groups = [prompt.group for prompt in book]
    counts: dict[str, int] = {group: groups.count(group) for group in PROMPT_GROUPS}
    if plan.spec.forget:
        tests = book.groups(plan.targets).items()
        counts = {"train": counts["train"], **{group: len(rows) for group, rows in tests}}
    return {group: count for group, count in counts.items() if count}


def process_record(plan: Plan, known: KnownData) -> dict[str, Any]:
    """Class and parameters of the process.

    Without the data, a parameter that depends on them, so that other data change it, is None.
    """
    stats = plan.loaded.stats
    other = replace(stats, std=2 * stats.std, max_distance=2 * stats.max_distance)
    record, changed = (plan.backbone.process(i).spec() for i in (stats, other))
    return {k: v if known.is_local or v == changed[k] else None for k, v in record.items()}


def training_estimates(
    spec: RunSpec, plans: Sequence[Plan]
) -> list[tuple[TrainingPlan, TrainingEstimate]]:
    """Budgets, the base model's first, each with the first training that has it.

    Where the request names no method, methods of one regime and budget share an estimate.
    """
    estimates: list[tuple[TrainingPlan, TrainingEstimate]] = []
    for training_plan in sorted(
        (t for plan in plans if plan.skipped is None for t in training_plans(spec, plan)),
        key=lambda t: not t.method.trains_base,
    ):
        name, base = training_plan.method.name, training_plan.method.trains_base
        budget = training_plan.budget.model_dump()
        closed_form = training_plan.method.closed_form
        estimate = TrainingEstimate(
            [name], base, training_plan.regime, budget, closed_form=closed_form
        )
        for i, (first, same) in enumerate(estimates):
            alike = (same.regime, same.budget, same.closed_form) == (
                *(estimate.regime, budget),
                closed_form,
            )
            if alike and not spec.method:
                estimates[i] = (first, replace(same, methods=[*same.methods, name]))
                break
        else:
            estimates.append((training_plan, estimate))
    return estimates


def training_plans(spec: RunSpec, plan: Plan) -> Iterator[TrainingPlan]:
    """The base model's training and the method's; without a method, one for each of its regimes.

    A regime in the request excludes the others; baselines keep their own.
    """
    if plan.training is None:
        return
    if spec.method:
        if plan.training.base is not None:
            yield plan.training.base
        yield plan.training
        return
    method = plan.training.method
    has_own_regime = method.baseline and spec.regime not in method.regimes
    for regime in regimes_of(method, spec):
        if has_own_regime or spec.regime in (None, regime):
            request = spec.model_copy(update={"regime": regime})
            yield training_in_regime(method, request, plan.settings, plan.training.pass_items)


def task_estimate(task: Task, plan: Plan, model: Model, known: KnownData) -> TaskEstimate:
    """Items of a task, and its network evaluations an item."""
    data, cost = plan.data, task.cost(model)
    _, test = known.sizes
    exact = known.is_local and bool(plan.spec.forget)
    forget = int(data.members(data.test, plan.targets).sum())
    sizes = (test - forget, forget) if exact else (test, test)
    items = task.total(placeholder_context(plan, model, sizes))
    return TaskEstimate(
        name=task.name,
        sampler=task.uses().get("samplers", ("", {}))[0],
        nfe=None if cost is None else cost.nfe,
        vjps=0 if cost is None else cost.vjps,
        assumption="" if cost is None else cost.assumed,
        items=items,
        is_upper_bound=not exact and items != task.total(placeholder_context(plan, model, (1, 1))),
        options=task.options.model_dump(mode="json"),
    )


def placeholder_context(plan: Plan, model: Model, sizes: tuple[int, int]) -> ModelContext:
    """A model's context with ``sizes`` items of D_g and D_f, all copies of one item."""
    retain, forget = (copies(plan.data.test, n) for n in sizes)
    context = eval_context(plan.data, plan.targets, plan.evaluation.judge, plan.runtime.device)
    return ModelContext(
        **vars(context), model=model, retain=retain, forget=forget, seed=plan.spec.seeds["sample"]
    )


def copies(examples: Examples, n: int) -> Examples:
    """``n`` copies of the first item, without memory of their own; none where there is no item."""
    one = examples[:1]
    size = n if len(one) else 0

    def expand(part: Tensor) -> Tensor:
        return part.expand(size, *part.shape[1:])

    return Examples(expand(one.x), expand(one.y), None if one.c is None else expand(one.c))
