"""What a run would do, as records: budgets, tasks, metrics, and how long it would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Seconds that a whole batch takes.

    Attributes:
        seconds: The time; None where it could not be measured.
        batch: Items of the batch.
        measured: Items of the batch that was measured; the time is scaled to the whole.
        reason: Why there is no time.
        passes: Passes that a training step takes; None for other work, and where it is not known.
    """

    seconds: float | None
    batch: int
    measured: int
    reason: str = ""
    passes: float | None = None


@dataclass(frozen=True)
class TrainingEstimate:
    """A training budget.

    Attributes:
        methods: Names of those that have it.
        base: Whether the base model is among them.
        regime: From fresh weights (``retrain``), or from the base model (``finetune``).
        budget: Steps and optimiser.
        pace: Time of a step; None where it was not asked for.
        paced_by: The method whose step was measured.
        seconds: Time of all steps; None where it is not known.
    """

    methods: Sequence[str]
    base: bool
    regime: str
    budget: Mapping[str, Any]
    pace: Timing | None = None
    paced_by: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class TaskEstimate:
    """A task.

    Attributes:
        name: Its name.
        sampler: The sampler that it draws with; empty where it has its own way.
        nfe: Network evaluations an item; None where nobody can tell.
        vjps: Vector-Jacobian products that come with each.
        assumed: What ``nfe`` rests on, where the options do not fix it.
        items: How many are drawn.
        at_most: Whether ``items`` is a bound, because the size of D_f is not known.
        options: All options.
        seconds: Time of all evaluations; None where it is not known.
    """

    name: str
    sampler: str
    nfe: int | None
    vjps: int
    assumed: str
    items: int
    at_most: bool
    options: Mapping[str, Any]
    seconds: float | None = None


@dataclass(frozen=True)
class MetricInfo:
    """A metric: its name, the tasks that it reads, its options, why its value will be missing."""

    name: str
    tasks: Sequence[str]
    options: Mapping[str, Any]
    missing: str = ""


@dataclass(frozen=True)
class RunEstimate:
    """What a run would do.

    Attributes:
        dataset: Its name.
        backbone: Its name.
        method: Its name; empty where all were asked for.
        preset: The preset.
        forget: Names of D_f's classes; empty where nobody said.
        here: Whether the data are on this machine; if not, ``data`` is what is published.
        data: Shape, grey levels, numbers of items and of classes; numbers to train on and held out
            of each class, empty where the data are not here; remarks on the files.
        network: Class, number of parameters, options.
        process: Class and parameters; None for one that is taken from data that are not here.
        training: Budgets, the base model's first.
        judge: Name and options.
        tasks: What the model is asked to do.
        metrics: What is measured.
        left_out: Tasks and metrics that do not apply, and why.
        skipped: Methods that cannot run here, and why.
        hardware: Where it would run.
        base: The base model from elsewhere; empty where it is trained here.
        evaluation: Time of a network evaluation on a task's batch; None if not asked for.
        evaluation_vjp: The same with a vector-Jacobian product; None if no task needs one.
    """

    dataset: str
    backbone: str
    method: str
    preset: str
    forget: Sequence[str]
    here: bool
    data: Mapping[str, Any]
    network: Mapping[str, Any]
    process: Mapping[str, Any]
    training: Sequence[TrainingEstimate]
    judge: Mapping[str, Any]
    tasks: Sequence[TaskEstimate]
    metrics: Sequence[MetricInfo]
    left_out: Mapping[str, str]
    skipped: Mapping[str, str]
    hardware: Mapping[str, Any]
    base: str = ""
    evaluation: Timing | None = None
    evaluation_vjp: Timing | None = None
