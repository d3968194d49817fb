"""Records of an estimate: budgets, tasks, metrics and times of a run that has not begun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Time of a whole batch.

    Attributes:
        seconds: Wall time, of the least repeat; None where it cannot be measured.
        batch: Items of the batch.
        measured: Items of the timed part; ``seconds`` is scaled from it to the whole batch.
        reason: Why ``seconds`` is None.
        passes: Passes of a training step; None for other work, and where it is unknown.
        process_seconds: CPU time of all threads of the process in the same repeat.
        share: Share of a core's time that the measuring thread had in it: 1 on a quiet machine,
            and where it waits for a GPU.
        steps: Preparation steps of a closed form, of which this is one; None for other work.
    """

    seconds: float | None
    batch: int
    measured: int
    reason: str = ""
    passes: float | None = None
    process_seconds: float | None = None
    share: float | None = None
    steps: int | None = None


@dataclass(frozen=True)
class TrainingEstimate:
    """A training budget.

    Attributes:
        methods: Names of the methods with this budget.
        base: Whether the base model has it.
        regime: From random weights (``retrain``), or from the base model (``finetune``).
        budget: Steps and optimiser.
        step_timing: Time of a step; None where nothing is measured.
        timed_method: The method whose step ``step_timing`` measures.
        seconds: Time of all steps; None where it is unknown.
        closed_form: Whether all work is done in preparation steps, whatever the budget.
    """

    methods: Sequence[str]
    base: bool
    regime: str
    budget: Mapping[str, Any]
    step_timing: Timing | None = None
    timed_method: str = ""
    seconds: float | None = None
    closed_form: bool = False


@dataclass(frozen=True)
class TaskEstimate:
    """A task.

    Attributes:
        name: Its name.
        sampler: Name of its sampler; empty where the task draws without one.
        nfe: Network evaluations an item; None where it is unknown.
        vjps: Vector-Jacobian products an evaluation.
        assumption: What ``nfe`` rests on, where the options do not fix it.
        items: Number of items.
        is_upper_bound: Whether ``items`` is a bound, because the size of D_f is unknown.
        options: All options.
        seconds: Time of all evaluations; None where it is unknown.
    """

    name: str
    sampler: str
    nfe: int | None
    vjps: int
    assumption: str
    items: int
    is_upper_bound: bool
    options: Mapping[str, Any]
    seconds: float | None = None


@dataclass(frozen=True)
class MetricInfo:
    """A metric: its name, the tasks that it scores, its options, and why its value is missing."""

    name: str
    tasks: Sequence[str]
    options: Mapping[str, Any]
    skip_reason: str = ""


@dataclass(frozen=True)
class RunEstimate:
    """Description of a run that has not begun.

    Attributes:
        dataset: Name of the dataset.
        backbone: Name of the backbone.
        method: Name of the method; empty for all methods.
        preset: Name of the preset.
        forget: Names of D_f's classes; empty where the request names none.
        data_is_local: Whether the data are on this machine; else ``data`` is what is published.
        data: Shape, grey levels, numbers of items and of classes; training and held-out items
            of each class and prompts of each group, empty where the data are not here; remarks on
            the files.
        network: Class, number of parameters, options.
        process: Class and parameters; None for a parameter that depends on data that are not here.
        training: Budgets, the base model's first.
        judge: Name and options.
        tasks: The tasks of the model.
        metrics: The metrics.
        skipped: Methods, tasks and metrics that do not apply, and why.
        hardware: Device, threads and precision.
        base: Source of the pretrained base model; empty where the run trains it.
        evaluation: Time of a network evaluation on a task's batch; None if nothing is measured.
        evaluation_vjp: The same with a vector-Jacobian product; None if no task needs one.
    """

    dataset: str
    backbone: str
    method: str
    preset: str
    forget: Sequence[str]
    data_is_local: bool
    data: Mapping[str, Any]
    network: Mapping[str, Any]
    process: Mapping[str, Any]
    training: Sequence[TrainingEstimate]
    judge: Mapping[str, Any]
    tasks: Sequence[TaskEstimate]
    metrics: Sequence[MetricInfo]
    skipped: Mapping[str, str]
    hardware: Mapping[str, Any]
    base: str = ""
    evaluation: Timing | None = None
    evaluation_vjp: Timing | None = None
