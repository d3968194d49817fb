"""Describe what a run would do, before anything is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from msgm_bench.api import Data, Examples, Model, ModelContext, Task
from msgm_bench.estimate.placeholder_data import KnownData, known_data
from msgm_bench.estimate.records import MetricInfo, RunEstimate, TaskEstimate, TrainingEstimate
from msgm_bench.estimate.timing import estimated
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


def outline(spec: RunSpec, measure: bool = True) -> RunEstimate:
    """Describe what a run would do; trains nothing and downloads nothing.

    Args:
        spec: The request. Without ``forget``, sizes that depend on it are bounds; without
            ``method``, the budgets of all methods are told.
        measure: Whether to time real steps and evaluations on the device.

    Raises:
        UsageError: The request is wrong.
        StorageError: The data are not here, and nothing is known of their shape.
    """
    runtime = Runtime.select(spec.device, spec.precision, spec.compile)
    registry().entry("backbones", spec.backbone)
    known = known_data(spec)
    data = known.loaded.data
    targets = data.targets(spec.forget) if spec.forget else (0,)  # one class stands for any
    changes = [{}] if spec.method else every_method()
    plans = [
        resolve_on_data(
            spec.model_copy(update=change), runtime, known.loaded, targets, download=False
        )
        for change in changes
    ]
    plan = next((p for p in plans if p.training and p.training.method.trains_base), plans[0])
    trained = budgets(spec, plans)
    told = replace(
        described(spec, plan, known),
        training=[stint for _, stint in trained],
        skipped=reasons(p.skipped for p in plans if p.skipped is not None),
    )
    return estimated(told, plan, [each for each, _ in trained]) if measure else told


def every_method() -> list[dict[str, Any]]:
    """Each installed method, in the regime that it prefers."""
    return [{"method": name, "regime": None} for name in registry().names("methods")]


def described(spec: RunSpec, plan: Plan, known: KnownData) -> RunEstimate:
    """All but budgets and times."""
    data, evaluation = plan.data, plan.evaluation
    missing = reasons(null_metrics(evaluation.metrics, evaluation.judge))
    model = skeleton(plan.backbone, plan.loaded.stats)
    return RunEstimate(
        dataset=spec.dataset,
        backbone=spec.backbone,
        method=spec.method,
        preset=plan.preset,
        forget=[data.classes[target] for target in plan.targets] if spec.forget else [],
        here=known.info is None,
        data=data_record(data, known),
        network={
            "class": type(model.network).__name__,
            "parameters": sum(weights.numel() for weights in model.network.parameters()),
            "options": plan.backbone.options.model_dump(mode="json"),
        },
        process=process_of(plan, known),
        training=[],
        judge={
            "name": evaluation.judge.name,
            "options": evaluation.judge.options.model_dump(mode="json"),
        },
        tasks=[chore(task, plan, model, known) for task in evaluation.tasks.values()],
        metrics=[
            MetricInfo(
                metric.name,
                [name for name in metric.tasks if name in evaluation.tasks],
                metric.options.model_dump(mode="json"),
                missing.get(metric.name, ""),
            )
            for metric in evaluation.metrics
        ],
        left_out=reasons(evaluation.skipped),
        base="" if plan.base is None else str(plan.base),
        skipped={},
        hardware=plan.runtime.hardware(),
    )


def data_record(data: Data, known: KnownData) -> dict[str, Any]:
    """Shape, numbers of items, classes, and remarks on the files."""
    train, test = known.sizes
    return {
        "shape": list(data.shape),
        "levels": data.levels,
        "train": train,
        "test": test,
        "classes": len(data.classes),
        "counts": dict.fromkeys(data.classes, ()) if known.info else data.counts(),
        "remarks": list(data.remarks),
    }


def process_of(plan: Plan, known: KnownData) -> dict[str, Any]:
    """Its class and parameters; None for those that other data would have made others."""
    stats = plan.loaded.stats
    other = replace(stats, std=2 * stats.std, max_distance=2 * stats.max_distance)
    here, there = (plan.backbone.process(s).spec() for s in (stats, other))
    return {k: v if known.info is None or v == there[k] else None for k, v in here.items()}


def budgets(spec: RunSpec, plans: Sequence[Plan]) -> list[tuple[TrainingPlan, TrainingEstimate]]:
    """Who trains for how long, the base model first; equal budgets are one."""
    found: list[tuple[TrainingPlan, TrainingEstimate]] = []
    for trained in sorted(
        (t for plan in plans if plan.skipped is None for t in trainings(spec, plan)),
        key=lambda t: not t.method.trains_base,
    ):
        name, base = trained.method.name, trained.method.trains_base
        stint = TrainingEstimate([name], base, trained.regime, trained.budget.model_dump())
        for i, (first, same) in enumerate(found):
            if (same.regime, same.budget) == (stint.regime, stint.budget) and not spec.method:
                found[i] = (first, replace(same, methods=[*same.methods, name]))
                break
        else:
            found.append((trained, stint))
    return found


def trainings(spec: RunSpec, plan: Plan) -> Iterator[TrainingPlan]:
    """The base model and the method; where none was named, the method in each of its regimes.

    A regime that was asked for leaves out the others; baselines keep their own.
    """
    if plan.training is None:
        return
    if spec.method:
        if plan.training.base is not None:
            yield plan.training.base
        yield plan.training
        return
    method = plan.training.method
    own = method.baseline and spec.regime not in method.regimes
    for regime in regimes_of(method, spec):
        if own or spec.regime in (None, regime):
            asked = spec.model_copy(update={"regime": regime})
            yield training_in_regime(method, asked, plan.settings, plan.training.pass_items)


def chore(task: Task, plan: Plan, model: Model, known: KnownData) -> TaskEstimate:
    """What a task amounts to."""
    data, cost = plan.data, task.cost(model)
    _, test = known.sizes
    exact = known.info is None and bool(plan.spec.forget)
    forget = int(data.members(data.test, plan.targets).sum())
    sizes = (test - forget, forget) if exact else (test, test)
    items = task.total(crowd(plan, model, sizes))
    return TaskEstimate(
        name=task.name,
        sampler=task.uses().get("samplers", ("", {}))[0],
        nfe=None if cost is None else cost.nfe,
        vjps=0 if cost is None else cost.vjps,
        assumed="" if cost is None else cost.assumed,
        items=items,
        at_most=not exact and items != task.total(crowd(plan, model, (1, 1))),
        options=task.options.model_dump(mode="json"),
    )


def crowd(plan: Plan, model: Model, sizes: tuple[int, int]) -> ModelContext:
    """A subject of which only the numbers of items of D_g and D_f count."""
    one = plan.data.test[:1]
    retain, forget = (
        Examples(*(part.expand(n, *part.shape[1:]) for part in (one.x, one.y))) for n in sizes
    )
    scene = eval_context(plan.data, plan.targets, plan.evaluation.judge, plan.runtime.device)
    return ModelContext(
        **vars(scene), model=model, retain=retain, forget=forget, seed=plan.spec.seeds["sample"]
    )
