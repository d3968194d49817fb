"""The conformance kit of each kind of plugin: its checks, and what they run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgm_bench.api import Plugin
from msgm_bench.testing.backbones import BACKBONE_CHECKS, BackboneCase
from msgm_bench.testing.checks import Check, Outcome, outcomes
from msgm_bench.testing.datasets import DATASET_CHECKS, DatasetCase
from msgm_bench.testing.embedders import EMBEDDER_CHECKS, EmbedderCase
from msgm_bench.testing.executors import EXECUTOR_CHECKS, ExecutorCase
from msgm_bench.testing.judges import JUDGE_CHECKS, JudgeCase
from msgm_bench.testing.methods import METHOD_CHECKS, MethodCase
from msgm_bench.testing.metric_trials import MetricCase
from msgm_bench.testing.metrics import METRIC_CHECKS
from msgm_bench.testing.plugins import quick_options
from msgm_bench.testing.samplers import SAMPLER_CHECKS, SamplerCase
from msgm_bench.testing.tasks import TASK_CHECKS, TaskCase
from msgm_bench.testing.trackers import TRACKER_CHECKS, TrackerCase


@dataclass(frozen=True)
class Kit:
    """The checks of one kind.

    Attributes:
        case: Makes what they run on from a class and its options.
        checks: In the order in which they run.
    """

    case: Callable[[Any, Mapping[str, Any]], Any]
    checks: Sequence[Check[Any]]


KITS: Mapping[str, Kit] = {
    "datasets": Kit(DatasetCase, DATASET_CHECKS),
    "backbones": Kit(BackboneCase, BACKBONE_CHECKS),
    "methods": Kit(MethodCase, METHOD_CHECKS),
    "tasks": Kit(TaskCase, TASK_CHECKS),
    "metrics": Kit(MetricCase, METRIC_CHECKS),
    "judges": Kit(JudgeCase, JUDGE_CHECKS),
    "embedders": Kit(EmbedderCase, EMBEDDER_CHECKS),
    "samplers": Kit(SamplerCase, SAMPLER_CHECKS),
    "executors": Kit(ExecutorCase, EXECUTOR_CHECKS),
    "trackers": Kit(TrackerCase, TRACKER_CHECKS),
}


def check_all(
    kind: str, cls: type[Plugin], options: Mapping[str, Any] | None = None
) -> Iterator[Outcome]:
    """The outcome of every check of a plugin's kind, as each is done.

    Args:
        kind: In the plural, such as ``methods``.
        cls: The plugin.
        options: Its options; those of its preset ``quick`` in the place of defaults.
    """
    kit = KITS[kind]
    return outcomes(kit.checks, kit.case(cls, quick_options(cls) | dict(options or {})))
