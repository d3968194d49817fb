"""The stages of a tiny request: a fine-tuning on the three Gaussians."""

from __future__ import annotations

from msgm_bench import RunSpec
from msgm_bench.experiment.graph import build_graph
from msgm_bench.experiment.plan import resolve

SPEC = RunSpec(
    dataset="gaussians",
    forget="middle",
    backbone="vesde",
    method="neggrad",
    regime="finetune",
    device="cpu",
    steps=5,
    samples=16,
    dataset_params={"train_size": 500, "test_size": 500},
    backbone_params={"width": 16, "depth": 1},
)


def graph(**changes):
    """The stages of the request with other fields."""
    return build_graph(resolve(SPEC.model_copy(update=changes)))
