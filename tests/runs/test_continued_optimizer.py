"""Fine-tuning that goes on with the base training's optimiser, through the whole pipeline."""

from __future__ import annotations

import json

import pytest
import torch
from cli_harness import tiny

from msgm_bench.cache.cache import Cache
from msgm_bench.experiment.graph import build_graph
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.experiment.training_plan import skip_training
from msgm_bench.experiment.training_stages import OPTIMIZER
from msgm_bench.storage.tensors import load_tensors

SOURCE = """
from msgm_bench import LossMethod, hookimpl, dsm_loss


class Onward(LossMethod):
    '''Trains on, on what is kept, as if it were one training.'''

    name = "onward"
    regimes = ("finetune",)
    needs = frozenset({"retain"})
    presets = {
        "quick": {
            "finetuning": {
                "continue_optimizer": True,
                "lr_schedule": "constant",
                "warmup_steps": 50,
            }
        }
    }

    def loss(self, model, batches, step):
        return dsm_loss(model, batches.retain)


@hookimpl
def register_methods():
    return [Onward]
"""


@pytest.fixture
def onward(third_party, fast):
    """The method above, installed."""
    third_party("third-party-onward", SOURCE, "third_party.onward")


def spec(method, **fields):
    """A tiny run in the plane."""
    return RunSpec(
        dataset="gaussians",
        forget="middle",
        backbone="vesde",
        method=method,
        device="cpu",
        steps=4,
        dataset_params={"train_size": 500, "test_size": 500},
        backbone_params={"width": 16, "depth": 1},
        **fields,
    )


def test_it_goes_on_and_leaves_both_in_the_base(bench, cache, onward, tmp_path):
    """Its first step has no warm-up; the base's folder holds raw weights and Adam's state."""
    code, _, errors = bench(*tiny("--preset", "quick", method="onward"))
    assert code == 0, errors
    (log,) = (tmp_path / "runs").rglob("train.jsonl")
    rates = {json.loads(row)["learning_rate"] for row in log.read_text("utf-8").splitlines()}
    assert len(rates) == 1
    (path,) = cache.rglob(OPTIMIZER)
    tensors = load_tensors(path)
    assert int(tensors["averaged"]) == 20
    assert {int(n) for name, n in tensors.items() if name.endswith(".step")} == {20}
    weights = load_tensors(path.with_name("weights.safetensors"))
    raw = {n.removeprefix("network."): w for n, w in tensors.items() if n.startswith("network.")}
    assert raw.keys() == weights.keys()
    assert not all(torch.equal(raw[name], weights[name]) for name in raw)


def test_only_those_bases_hold_it_from_which_one_goes_on(cache, onward):
    """The base of such a method has a key of its own; all others share one."""
    keys = {m: build_graph(resolve(spec(m))).base.key for m in ("onward", "finetune", "neggrad")}
    assert keys["finetune"] == keys["neggrad"] != keys["onward"]
    assert Cache().find(keys["onward"]) is None


def test_a_given_base_brings_no_optimiser(cache, onward):
    """The method is skipped, with the reason."""
    plan = resolve(spec("onward"))
    given = plan.spec.model_copy(update={"base": "somewhere"})
    skip = skip_training(plan.training, given, plan.data, plan.backbone)
    assert skip.name == "onward"
    assert "which --base does not bring" in skip.reason
    assert skip_training(plan.training, plan.spec, plan.data, plan.backbone) is None
