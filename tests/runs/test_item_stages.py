"""Training items that stages make: drawn by the base, or encoded once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cli_harness
import pytest
import torch
from torch import nn

from msgm_bench import (
    Conditioned,
    IncompatibleError,
    ItemDrawing,
    Model,
    Noise,
    ProbabilityFlow,
    PromptBook,
    RunSpec,
    run,
)
from msgm_bench.diffusion import derive_seed
from msgm_bench.estimate.run_estimate import estimate_run
from msgm_bench.experiment.graph import build_graph
from msgm_bench.experiment.item_stages import ITEMS, DrawItems, EncodeItems, training_splits
from msgm_bench.experiment.loaded_data import LoadedData
from msgm_bench.experiment.model_stage import ModelStage
from msgm_bench.experiment.plan import resolve
from msgm_bench.testing.toy_text import toy_captions, toy_prompts, toy_text_base
from msgm_bench.training import NoisedBatches, Runtime

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU)
BOOK = toy_prompts()
DRAWING = ItemDrawing(10, "heun", {"nfe": 5}, 1.5, 4)
LOADED = LoadedData(toy_captions(), None, "0")


@dataclass(frozen=True, eq=False)
class ToyBase(ModelStage):
    """Makes the kit's trained toy model."""

    name = "toy base"

    @cached_property
    def inputs(self):
        """Nothing."""
        return {}

    def run(self, work, needs, report):
        """Nothing to write."""

    @staticmethod
    def load(folders, device):
        """The model."""
        return elementwise_model()


class Elementwise(nn.Module):
    """0.3 x_t plus a number of the prompt: no rounding depends on the batch."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x_t, t, hidden):
        """The sum."""
        return 0.3 * x_t + hidden.mean(dim=(1, 2)).reshape(-1, 1, 1, 1)


def elementwise_model():
    """The toy model with such a network."""
    toy = toy_text_base()
    network = Elementwise(toy.prompts.encoder)
    return Model(network, toy.process, toy.codec, toy.shape, toy.conditioning)


def draw(folder, report=lambda *said: None, **changes):
    """The items of a stage of D_f in ``folder``."""
    fields = {"drawing": DRAWING, "book": BOOK, "targets": (0,), "part": "forget", "seed": 3}
    stage = DrawItems(LOADED, RUNTIME, ToyBase(), **(fields | changes))
    folder.mkdir(exist_ok=True)
    stage.run(folder, {}, report)
    return stage.load(folder)


def test_items_are_drawn_by_their_captions(tmp_path):
    """Each item equals the one that the sampler draws alone, of its caption and its own noise."""
    items, model = draw(tmp_path / "a"), elementwise_model()
    assert items.c.tolist() == [0, 3, 0, 3, 0, 3, 0, 3, 0, 3]
    assert torch.equal(items.y, torch.tensor([[True, False, False]]).expand(10, 3))
    sampler = ProbabilityFlow().with_nfe(5)
    for i in (0, 5, 9):
        conditioned = Conditioned(model, items.c[i : i + 1], 1.5)
        noise = Noise(derive_seed(3, "items", "forget"), i, 1, CPU)
        x = sampler(conditioned.eps_fn, model.process, model.shape, noise).x
        torch.testing.assert_close(items.x[i : i + 1], x.clamp(*model.codec.bounds))


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_items_do_not_depend_on_their_batch(tmp_path, batch_size):
    """Another number of items at once is another chunk and the same items."""
    other = draw(tmp_path / "b", drawing=replace(DRAWING, batch_size=batch_size))
    torch.testing.assert_close(other.x, draw(tmp_path / "a").x)


def test_a_killed_drawing_goes_on(tmp_path):
    """Finished chunks are not drawn again, and the items are those of one attempt."""

    def stop(done, total, values):
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "b", stop)
    assert not (tmp_path / "b" / ITEMS).exists()
    seen = []
    again = draw(tmp_path / "b", lambda done, *said: seen.append(done))
    assert torch.equal(again.x, draw(tmp_path / "a").x)
    assert [path.name for path in (tmp_path / "b").iterdir()] == [ITEMS]
    assert seen == [4, 8, 10]


def test_captions_with_a_guidance_of_their_own_have_it(tmp_path):
    """A row's w goes before that of the drawing."""
    prompts = tuple(replace(p, guidance=0.0) if i == 3 else p for i, p in enumerate(BOOK))
    mixed = draw(tmp_path / "a", book=PromptBook(BOOK.concepts, prompts))
    guided, plain = draw(tmp_path / "b"), draw(tmp_path / "c", drawing=replace(DRAWING, guidance=0))
    torch.testing.assert_close(mixed.x[::2], guided.x[::2])
    torch.testing.assert_close(mixed.x[1::2], plain.x[1::2])
    assert not torch.equal(mixed.x[1::2], guided.x[1::2])


def test_more_captions_than_items_are_spread_evenly(tmp_path):
    """Three items of four captions: the first of each third."""
    stage = DrawItems(
        LOADED, RUNTIME, ToyBase(), replace(DRAWING, count=3), BOOK, (0,), "retain", 0
    )
    assert stage.captions.tolist() == [1, 2, 4]


def test_a_key_knows_what_the_items_depend_on():
    """Captions' forget set, seed and way of drawing; a batch's size is a part of the way."""
    stages = [
        DrawItems(LOADED, RUNTIME, ToyBase(), drawing, BOOK, targets, part, seed)
        for drawing in (DRAWING, replace(DRAWING, guidance=0.0))
        for targets in ((0,), (1,))
        for part in ("retain", "forget")
        for seed in (0, 1)
    ]
    assert len({stage.key for stage in stages}) == 16


# Encoding ---------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [False, True])
def test_images_are_encoded_once(tmp_path, flip):
    """Model space of all images, and of the mirrored ones where training mirrors."""
    data = replace(toy_captions(24), flip=flip)
    stage = EncodeItems(LoadedData(data, None, "0"), RUNTIME, ToyBase())
    stage.run(tmp_path, {}, lambda *said: None)
    items, codec, train = stage.load(tmp_path), toy_text_base().codec, data.train
    assert torch.equal(items.x[: len(train)], codec.encode(train.x))
    assert torch.equal(items.y[-len(train) :], train.y)
    assert torch.equal(items.c[-len(train) :], train.c)
    assert len(items) == len(stage.labels) == (2 if flip else 1) * len(train)
    if flip:
        assert torch.equal(items.x[len(train) :], codec.encode(train.x.flip(-1)))


def test_splits_of_made_items_are_those_of_the_data():
    """All of D is split by labels; drawn parts are D_g and D_f, and together all of D."""
    data = toy_captions()
    retain, forget = data.split(data.train, (1,))
    for items in ({}, {"all": data.train}, {"retain": retain, "forget": forget}):
        splits = training_splits(data, (1,), items)
        assert torch.equal(splits["retain"].x, retain.x)
        assert torch.equal(splits["forget"].c, forget.c)
        assert sorted(splits["all"].c.tolist()) == sorted(data.train.c.tolist())
    assert list(training_splits(data, (1,), {"forget": forget})) == ["forget"]


def test_batches_of_made_items_are_not_encoded_again():
    """x0 is the item, in batches and where a method asks for noise."""
    data, model = toy_captions(), toy_text_base()
    items = replace(data.train, x=torch.randn(len(data.train), 1, 4, 4))
    batches = NoisedBatches({"all": items}, model, 0, 8, encoded=True)
    x0 = batches.batch("all", 0).x0
    assert all(any(torch.equal(x, item) for item in items.x) for x in x0)
    assert torch.equal(batches.noised(items, "noise").x0, items.x)


# Runs -------------------------------------------------------------------------------------

SPEC = RunSpec(
    dataset="painted",
    forget="top",
    backbone="toy_pretrained",
    method="neggrad",
    base="toy",
    text=True,
    preset="quick",
)


@pytest.fixture
def painted(third_party, cache, monkeypatch):
    """The third-party text track of prompts alone."""
    source = (cli_harness.THIRD_PARTY / "third_party_prompts.py").read_text("utf-8")
    plugins = f"{cli_harness.FAST_PLUGINS},third_party.*"
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", plugins)
    third_party("third-party-prompts", source, "third_party.prompts")


def test_a_run_trains_on_what_its_base_drew(painted, tmp_path):
    """The base draws before the method trains, once for methods of one seed; the result is ok."""
    assert run(SPEC, tmp_path).status == "ok"
    graphs = [build_graph(resolve(SPEC.model_copy(update={"method": m}))) for m in ("obt", "ort")]
    for graph in graphs:
        assert [stage.name for stage in graph.items] == ["draw retain items", "draw forget items"]
    keys = [{stage.name: stage.key for stage in graph.items} for graph in graphs]
    assert keys[0] == keys[1]
    other = SPEC.model_copy(update={"unlearn_seed": 1})
    assert build_graph(resolve(SPEC)).model.key != build_graph(resolve(other)).model.key


def test_prompts_alone_need_a_base(painted):
    """Without --base nothing is trained, and the error says what is missing."""
    with pytest.raises(IncompatibleError, match="no items, without a base") as error:
        resolve(SPEC.model_copy(update={"base": None}))
    assert error.value.allowed == "--base"


def test_methods_of_fresh_weights_are_skipped(painted, tmp_path):
    """A reference that never saw a concept needs data of its own."""
    result = run(SPEC.model_copy(update={"method": "unseen"}), tmp_path)
    assert (result.status, result.reason) == (
        "skipped",
        "unseen trains from fresh weights, and the data have no items for that",
    )


def test_a_run_without_items_is_estimated(painted):
    """Steps are timed on placeholders of the items that the base has yet to draw."""
    estimate = estimate_run(SPEC)
    assert estimate.data["train"] == 0
    assert [training.methods for training in estimate.training] == [["neggrad"]]
    assert estimate.training[0].step_timing.seconds is not None
