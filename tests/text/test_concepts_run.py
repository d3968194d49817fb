"""Concepts and captions on Stable Diffusion: what the base draws or encodes, methods train on."""

from __future__ import annotations

import cli_harness
import fake_data
import pytest
import torch
from tiny_pipeline import SIDE, write_pipeline

from msgm_bench import RunSpec, run
from msgm_bench.cache.cache import Cache
from msgm_bench.experiment.graph import build_graph
from msgm_bench.experiment.item_stages import DrawItems, EncodeItems
from msgm_bench.experiment.plan import resolve
from msgm_bench.registry import registry
from msgm_text.backbones.stable_diffusion import StableDiffusion

CONCEPTS = """
concepts:
  circle: {domain: shape, anchor: square, prompts: {target: [a red circle]}}
  ring: {domain: shape, anchor: square, prompts: {target: [a blue ring]}}
  dog: {domain: animal, prompts: {target: [photo of a dog]}}
"""
DRAWN = {"captions": ["a {concept}"], "resolution": SIDE, "items": 5, "nfe": 3, "batch_size": 2}


@pytest.fixture
def world(third_party, cache, tmp_path, monkeypatch):
    """A pipeline, a file of concepts, captioned images, and a judge that needs no weights."""
    source = (cli_harness.THIRD_PARTY / "third_party_prompts.py").read_text("utf-8")
    third_party("third-party-prompts", source, "third_party.prompts")
    monkeypatch.chdir(tmp_path)
    write_pipeline(tmp_path / "pipeline")
    (tmp_path / "concepts.yaml").write_text(CONCEPTS)
    fake_data.write_images(tmp_path / "images", 10, SIDE)
    texts = ["a red circle", "a blue ring"]
    rows = [f"{i:03d}.png,{texts[i % 2]}" for i in range(10)]
    (tmp_path / "images" / "metadata.csv").write_text("\n".join(["file_name,text", *rows]) + "\n")
    return tmp_path


def spec(method="neggrad", **changes):
    """A run of two steps from the pipeline."""
    fields = {
        "dataset": "concepts",
        "dataset_params": {"file": "concepts.yaml", **DRAWN},
        "forget": ("circle",),
        "backbone": "stable_diffusion",
        "base": "pipeline",
        "text": True,
        "steps": 2,
        "samples": 2,
        "preset": "quick",
        "judge_params": {"name": "blind"},
    }
    return RunSpec(**(fields | {"method": method} | changes))


def test_a_base_draws_what_a_method_trains_on(world):
    """Latents of the captions, drawn once; the result is ok."""
    assert run(spec(), world / "runs").status == "ok"
    plan = resolve(spec())
    stages = build_graph(plan).items
    assert [type(stage) for stage in stages] == [DrawItems, DrawItems]
    for stage, texts in zip(stages, ({"a ring", "a dog"}, {"a circle"}), strict=True):
        items = stage.load(Cache().find(stage.key).path)
        assert items.x.shape == (5, 4, SIDE // 2, SIDE // 2)
        assert {plan.data.prompts[i].text for i in items.c.tolist()} == texts


def test_images_are_encoded_once_by_the_autoencoder(world):
    """Latents of all training images, equal to those of the base's autoencoder."""
    options = {"folder": "images", "concepts": ["circle", "ring"], "resolution": SIDE}
    request = spec(dataset="captions", dataset_params=options)
    assert run(request, world / "runs").status == "ok"
    plan = resolve(request)
    (stage,) = build_graph(plan).items
    assert isinstance(stage, EncodeItems)
    items = stage.load(Cache().find(stage.key).path)
    network = StableDiffusion().from_pretrained("pipeline", plan.loaded.stats)
    codec = network.backbone.build(plan.loaded.stats).codec
    torch.testing.assert_close(items.x, codec.encode(plan.data.train.x))


def test_every_method_plans_on_prompts_alone(world):
    """Each installed method is ready to train on drawn items, or is skipped with a reason."""
    options = {"file": "concepts.yaml", **DRAWN, "items": 12}
    params = {"esd": {"weights": "cross"}}
    plans = {
        name: resolve(spec(name, dataset_params=options, params=params.get(name, {})))
        for name in registry().names("methods")
    }
    for name, plan in plans.items():
        training = plan.training
        if plan.skipped is not None or training is None:
            continue
        splits = {"retain", "forget"} if "all" in training.method.needs else training.method.needs
        items = {stage.split for stage in build_graph(plan).items}
        assert items == splits - {"base"}, name
    trained = {name for name, plan in plans.items() if plan.skipped is None and plan.training}
    reasons = {n: plan.skipped.reason for n, plan in plans.items() if plan.skipped is not None}
    assert {"esd", "neggrad", "rgd", "salun", "sfd"} <= trained, reasons
    assert plans["unseen"].skipped is not None


def test_a_given_base_has_its_control_on_a_concept_that_it_does_not_know(world):
    """The same attack on the base, for the unknown concept; a book without one says why not."""
    unknown = "  mascot: {domain: animal, unknown: true, prompts: {target: [photo of a mascot]}}\n"
    (world / "concepts.yaml").write_text(CONCEPTS + unknown)
    small = {"prefixes": 2, "screening": 1, "finalists": 1, "selection": 1, "draws": 2, "nfe": 2}
    request = spec(task_params={"prompt_attack": {**small, "words": ["red", "blue", "big"]}})
    plan = resolve(request)
    graph = build_graph(plan)
    (name,) = graph.controls
    control = graph.controls[name]
    assert name == "prompt_attack"
    assert control.model is graph.base
    assert [plan.data.classes[i] for i in control.context.targets] == ["mascot"]
    assert "control of prompt_attack" in graph.stages
    groups = plan.data.prompts.groups(plan.targets)
    texts = {plan.data.prompts[i].text for rows in groups.values() for i in rows}
    assert texts == {"a red circle", "a blue ring", "photo of a dog"}  # no mascot among the kept
    result = run(request, world / "runs")
    rows = {row.metric: row for row in result.metrics}
    assert rows["asr_control"].n == 2
    assert rows["asr_control"].value is not None


def test_a_given_base_without_such_a_concept_has_no_control(world):
    """The row says what a book may name."""
    small = {"prefixes": 2, "screening": 1, "finalists": 1, "selection": 1, "draws": 2, "nfe": 2}
    request = spec(task_params={"prompt_attack": {**small, "words": ["red", "blue", "big"]}})
    assert not build_graph(resolve(request)).controls
    rows = {row.metric: row for row in run(request, world / "runs").metrics}
    assert rows["asr_control"].value is None
    assert "may name a concept that the base does not know" in rows["asr_control"].reason
