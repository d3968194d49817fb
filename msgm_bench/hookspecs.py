"""The hooks: with ``msgm_bench.api`` they are the plugin contract.

A plugin is a module with an entry point of group ``msgm_bench`` that implements any of these
functions under ``@hookimpl``. Registration hooks return classes; life-cycle hooks are told what
happens and return nothing. Raising in a life-cycle hook fails the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """Things that a model is asked to do."""
    return ()


@hookspec
def register_metrics() -> Sequence[type[Metric]]:
    """Values read off a task's artifact."""
    return ()


@hookspec
def register_judges() -> Sequence[type[Judge]]:
    """Classifiers that say what a sample shows."""
    return ()


@hookspec
def register_embedders() -> Sequence[type[Embedder]]:
    """Feature extractors."""
    return ()


@hookspec
def register_samplers() -> Sequence[type[Sampler]]:
    """Ways to draw from a model."""
    return ()


@hookspec
def register_executors() -> Sequence[type[Executor]]:
    """Ways to run the cells of a grid."""
    return ()


@hookspec
def register_trackers() -> Sequence[type[Tracker]]:
    """Loggers: classes that implement life-cycle hooks and are switched on by name."""
    return ()


@hookspec
def run_started(spec: Mapping[str, Any], folder: str) -> None:
    """A cell begins; ``spec`` is its resolved description."""


@hookspec
def stage_started(stage: str, key: str, total: int, done: int) -> None:
    """A stage that was not cached begins, at unit ``done`` of ``total``."""


@hookspec
def step_ended(stage: str, step: int, total: int, values: Mapping[str, float]) -> None:
    """``step`` of ``total`` units are done; ``values`` are what is logged (may be empty).

    A part that comes before a stage's own units, such as what a method prepares, has its own
    count, under ``stage: part``.
    """


@hookspec
def stage_ended(stage: str, key: str, seconds: float, cached: bool) -> None:
    """A stage is done, or was found in the cache."""


@hookspec
def metric_computed(row: Row) -> None:
    """A row of the result is known."""


@hookspec
def run_ended(result: Result, folder: str) -> None:
    """``result.json`` is written."""


@hookspec
def run_failed(spec: Mapping[str, Any], folder: str, reason: str) -> None:
    """The cell failed; what was computed is kept."""
