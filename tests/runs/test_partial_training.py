"""Methods that train a part of the network, or edit it in closed form, from request to model."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from msgm_bench.cache.cache import Cache
from msgm_bench.errors import IncompatibleError, UsageError
from msgm_bench.execution import run_stage
from msgm_bench.experiment.graph import build_graph
from msgm_bench.experiment.model_card import BASE_FOLDER, CARD, WEIGHTS, read_card
from msgm_bench.experiment.model_io import load_model
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.storage.tensors import load_tensors

CPU = torch.device("cpu")
POINTS = (*("-d", "train_size=500", "-d", "test_size=500"), "--samples", "20")
SOURCE = """
import torch
from torch import nn
from msgm_bench import (
    LossMethod, Method, OptionError, VariancePreserving, WeightsOptions, dsm_loss, hookimpl
)
from msgm_bench.testing.toys import ToyBackbone


class Wide(nn.Module):
    def __init__(self, inner, rank):
        super().__init__()
        self.inner = inner
        self.down = nn.Linear(inner.in_features, rank, bias=False)
        self.up = nn.Linear(rank, inner.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.inner(x) + self.up(self.down(x))


class Parted(ToyBackbone):
    '''A network of which one layer, or an adapter beside it, may be trained alone.'''

    name = "parted"
    samplers = ("heun",)

    def parts(self, network):
        return {"last": ["layers.2.weight", "layers.2.bias"]}

    def add_adapter(self, model, part):
        kind, _, rank = part.partition(":")
        if kind != "lora":
            return super().add_adapter(model, part)
        model.network.layers[2] = Wide(model.network.layers[2], int(rank))
        model.parts[part] = frozenset(["layers.2.down.weight", "layers.2.up.weight"])


class Partial(LossMethod[WeightsOptions]):
    '''Trains on, on what is kept.'''

    name = "partial"
    regimes = ("finetune", "retrain")
    needs = frozenset({"retain"})

    def loss(self, model, batches, step):
        return dsm_loss(model, batches.retain)


class Halved(Method[WeightsOptions]):
    '''Halves a layer a preparation step.'''

    name = "halved"
    regimes = ("finetune",)
    needs = frozenset({"base"})
    closed_form = True

    def num_preparation_steps(self, session):
        return 2

    def preparation_step(self, session, i):
        with session.edit():
            layer = session.model.network.layers[2 * i]
            layer.weight.mul_(0.5)

    def update(self, session, step):
        raise AssertionError("a closed form has no step")


@hookimpl
def register_backbones():
    return [Parted]


@hookimpl
def register_methods():
    return [Partial, Halved]
"""
LAST = {"layers.2.weight", "layers.2.bias"}
ADAPTER = {"layers.2.down.weight", "layers.2.up.weight"}


@pytest.fixture
def parted(third_party, fast):
    """The plugins above, installed."""
    third_party("third-party-parted", SOURCE, "third_party.parted")


def spec(method="partial", **fields):
    """A tiny run in the plane."""
    return RunSpec(
        dataset="gaussians",
        forget="middle",
        backbone="parted",
        method=method,
        device="cpu",
        steps=4,
        samples=20,
        dataset_params={"train_size": 500, "test_size": 500},
        **fields,
    )


def stages(request):
    """Folders of the base and of the model of a request."""
    graph, known = build_graph(resolve(request)), {}
    model = run_stage(graph.model, Cache(), known).path
    return run_stage(graph.base, Cache(), known).path, model


@pytest.mark.parametrize(("weights", "names"), [("last", LAST), ("lora:2", ADAPTER)])
def test_a_part_alone_moves_and_is_stored(parted, weights, names):
    """The file holds the part; with the base it is the trained model, which differs in the part."""
    base, folder = stages(spec(params={"weights": weights}))
    assert set(load_tensors(folder / WEIGHTS)) == names
    assert read_card(folder).part.name == weights
    before = load_model(base, CPU).network.state_dict()
    after = load_model(folder, CPU, base).network.state_dict()
    moved = {name for name, tensor in after.items() if name in names}
    assert moved == names
    for name, tensor in before.items():
        place = name if name in after else name.replace("layers.2.", "layers.2.inner.")
        assert torch.equal(tensor, after[place]) == (place not in names)


def test_frozen_tensors_are_those_of_the_base(parted):
    """Base and model share the memory of all that is frozen, and nothing of what is trained."""
    plan = resolve(spec(params={"weights": "last"}))
    graph = build_graph(plan)
    base = load_model(run_stage(graph.base, Cache(), {}).path, CPU)
    base.requires_grad_(False)
    model = graph.model.copy_of_base(base)
    pairs = zip(base.network.named_parameters(), model.network.parameters(), strict=True)
    assert {name for (name, p), q in pairs if p.data_ptr() != q.data_ptr()} == LAST
    assert {name for name, p in model.network.named_parameters() if p.requires_grad} == LAST


def test_a_run_folder_brings_the_base_and_is_evaluated_anywhere(parted, bench, cache, tmp_path):
    """``evaluate`` gives the run's values without the cache, and names a base that is not there."""
    data = ("--dataset", "gaussians", "--forget", "middle", *POINTS, "--device", "cpu")
    part = ("--backbone", "parted", "--method", "partial", "-p", "weights=last", "--steps", "4")
    code, _, errors = bench("run", *data, *part, "--out", str(tmp_path / "runs"))
    assert code == 0, errors
    (run,) = (path.parent for path in tmp_path.rglob("result.json"))
    assert {path.name for path in (run / "model" / BASE_FOLDER).iterdir()} == {CARD, WEIGHTS}
    shutil.rmtree(cache)
    again = ("evaluate", str(run), *data, "--out", str(tmp_path / "again"))
    code, _, errors = bench(*again)
    assert code == 0, errors
    first, second = (json.loads(path.read_text("utf-8")) for path in tmp_path.rglob("result.json"))
    assert values(first) == values(second)
    shutil.rmtree(run / "model" / BASE_FOLDER)
    code, _, errors = bench(*again)
    assert code != 0
    assert "the part 'last' of a model, and not its base" in errors


def values(result):
    """Values of a result by metric and split."""
    return {(row["metric"], row["split"]): row["value"] for row in result["metrics"]}


def test_another_base_is_refused(parted):
    """A part belongs to the base whose hash it names."""
    _, folder = stages(spec(params={"weights": "last"}))
    other, _ = stages(spec(params={"weights": "last"}, seed=1))
    with pytest.raises(IncompatibleError, match="of a model of the base"):
        load_model(folder, CPU, other)
    with pytest.raises(UsageError, match="and not its base"):
        load_model(folder, CPU)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"params": {"weights": "first"}}, "no such part"),
        ({"params": {"weights": "last"}, "regime": "retrain"}, "trained as a whole"),
    ],
)
def test_a_part_that_cannot_be_trained_is_refused(parted, fields, reason):
    """An unknown part, and a part of fresh weights, are errors before anything is trained."""
    with pytest.raises(UsageError) as caught:
        resolve(spec(**fields))
    assert reason in f"{caught.value.what} {caught.value.allowed}"


def test_a_closed_form_edits_in_preparation_steps_alone(parted):
    """Two layers are halved exactly, without an average; the log has the passes of each step."""
    base, folder = stages(spec("halved"))
    before, after = (load_model(path, CPU).network.state_dict() for path in (base, folder))
    for name, tensor in before.items():
        factor = 0.5 if name in ("layers.0.weight", "layers.2.weight") else 1.0
        assert torch.equal(factor * tensor, after[name])
    rows = (folder / "train.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(row) for row in rows] == [{"step": i, "passes": 0} for i in (1, 2)]


def test_a_closed_form_is_scored(parted, bench, tmp_path):
    """A run without a step of the optimiser ends with a result that states its passes."""
    data = ("--dataset", "gaussians", "--forget", "middle", *POINTS, "--device", "cpu")
    part = ("--backbone", "parted", "--method", "halved", "--steps", "4")
    code, _, errors = bench("run", *data, *part, "--out", str(tmp_path))
    assert code == 0, errors
    (result,) = (json.loads(path.read_text("utf-8")) for path in tmp_path.rglob("result.json"))
    assert result["provenance"]["passes"]["train halved"] == 0


def test_whole_trainings_store_no_part(parted):
    """weights=auto is the whole network where the backbone names no ``unet``."""
    _, folder = stages(spec())
    assert "part" not in json.loads((folder / CARD).read_text("utf-8"))
