"""The hooks: with ``msgm_bench.api`` they are the plugin contract.

A plugin is a module with an entry point of group ``msgm_bench`` that implements any of these
functions under ``@hookimpl``. Registration hooks return classes; life-cycle hooks receive events
of a run and return nothing. An exception in a life-cycle hook fails the run; in a tracker's, it
ends its log. ``published_values`` answers pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from msgm_bench.api import (
        Backbone,
        Dataset,
        Embedder,
        Executor,
        Judge,
        Method,
        Metric,
        Result,
        Row,
        Sampler,
        Task,
        Tracker,
    )

PROJECT = "msgm_bench"


@dataclass(frozen=True)
class Published:
    """A value of a paper, beside what results say of it.

    Attributes:
        method: The method, by its name here.
        quantity: What is measured, in words.
        metric: ``metric`` of the rows that answer it.
        split: Their ``split``.
        value: The value as published.
        unit: Its unit.
        source: Paper and table.
        status: What the results say of it, in a word or two.
        notes: Reasons and remarks.
        measured: What the results have: value, lower and upper end of its 95 % interval, or None.
    """

    method: str
    quantity: str
    metric: str
    split: str
    value: float
    unit: str
    source: str
    status: str
    notes: tuple[str, ...] = ()
    measured: tuple[float, float, float] | None = None


hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_datasets() -> Sequence[type[Dataset]]:
    """Datasets."""
    return ()


@hookspec
def register_backbones() -> Sequence[type[Backbone]]:
    """Diffusion processes with their networks."""
    return ()


@hookspec
def register_methods() -> Sequence[type[Method]]:
    """Unlearning methods."""
    return ()


@hookspec
def register_tasks() -> Sequence[type[Task]]:
    """Tasks: sampling, likelihood, restoration."""
    return ()


@hookspec
def register_metrics() -> Sequence[type[Metric]]:
    """Metrics of the artifacts of tasks."""
    return ()


@hookspec
def register_judges() -> Sequence[type[Judge]]:
    """Classifiers of samples."""
    return ()


@hookspec
def register_embedders() -> Sequence[type[Embedder]]:
    """Feature extractors."""
    return ()


@hookspec
def register_samplers() -> Sequence[type[Sampler]]:
    """Samplers of models."""
    return ()


@hookspec
def register_executors() -> Sequence[type[Executor]]:
    """Executors of the runs of a grid."""
    return ()


@hookspec
def register_trackers() -> Sequence[type[Tracker]]:
    """Loggers: classes with life-cycle hooks, chosen by name."""
    return ()


@hookspec
def run_started(spec: Mapping[str, Any], folder: str) -> None:
    """A run begins.

    Args:
        spec: The run with all options resolved, as in ``result.json``.
        folder: The run folder.
    """


@hookspec
def stage_started(stage: str, key: str, total: int, done: int) -> None:
    """A stage that is not in the cache begins, at unit ``done`` of ``total``."""


@hookspec
def step_ended(stage: str, step: int, total: int, values: Mapping[str, float]) -> None:
    """``step`` of ``total`` units are done; ``values`` are the logged scalars, if any.

    A part before a stage's units, such as a method's preparation, has its own count, under
    ``stage: part``.
    """


@hookspec
def stage_ended(stage: str, key: str, seconds: float, cached: bool) -> None:
    """A stage is done, or is in the cache (``cached``)."""


@hookspec
def metric_computed(row: Row) -> None:
    """A row of the result is measured."""


@hookspec
def run_ended(result: Result, folder: str) -> None:
    """``result.json`` is written."""


@hookspec
def run_failed(spec: Mapping[str, Any], folder: str, reason: str) -> None:
    """The run failed for ``reason``; its cached stages stay."""


@hookspec
def published_values(results: Sequence[Result]) -> Sequence[Published]:
    """Values of papers that the results of a board answer, for its page of the site."""
    return ()


@hookspec
def job_ended(stopped: bool) -> None:
    """The runs of the command, or the job of a worker, are over: close what is open.

    It is called whatever became of the last run, which may go on in another job or command.

    Args:
        stopped: Whether an exception ends them, such as Ctrl-C.
    """
