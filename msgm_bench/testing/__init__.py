"""Conformance checks that plugin authors run on their own classes.

Each check raises ``AssertionError`` with a sentence on what is wrong, and takes seconds.
"""

from msgm_bench.testing.backbones import check_backbone
from msgm_bench.testing.datasets import check_dataset
from msgm_bench.testing.embedders import check_embedder
from msgm_bench.testing.executors import check_executor
from msgm_bench.testing.judges import check_judge
from msgm_bench.testing.methods import check_method
from msgm_bench.testing.metrics import check_metric
from msgm_bench.testing.plugins import check_plugin
from msgm_bench.testing.processes import check_process
from msgm_bench.testing.samplers import check_sampler
from msgm_bench.testing.tasks import check_task
from msgm_bench.testing.toys import ToyBackbone, ToyJudge, toy_context, toy_images
from msgm_bench.testing.trackers import check_tracker
from msgm_bench.testing.training import trained

__all__ = [
    "ToyBackbone",
    "ToyJudge",
    "check_backbone",
    "check_dataset",
    "check_embedder",
    "check_executor",
    "check_judge",
    "check_method",
    "check_metric",
    "check_plugin",
    "check_process",
    "check_sampler",
    "check_task",
    "check_tracker",
    "toy_context",
    "toy_images",
    "trained",
]
