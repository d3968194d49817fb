"""The Frechet distance of images of retained prompts, in features that are read off by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from prompt_contexts import CONCEPTS, SHAPE, Pixels, context, items, paint

from msgm_builtin.metrics.fid import JudgeFID
from msgm_builtin.metrics.frechet import Moments, frechet_distance, frechet_interval
from msgm_text.metrics import prompt_fid
from msgm_text.metrics.prompt_fid import BaseJudgeFID, PromptJudgeFID
from msgm_text.tasks.prompt_generation import PromptGeneration

TASK = PromptGeneration.create({"images_per_prompt": 40})


class Featured(Pixels):
    """Features are three pixels."""

    def features(self, x):
        """Three of them."""
        return x[:, 0, 1, :3].float()


def measured(model_context, artifact):
    """The row, with its reference."""
    metric = PromptJudgeFID.create()
    if metric.needs_reference(model_context):
        model_context = replace(model_context, reference=metric.compute_reference(model_context))
    (row,) = metric.measure(model_context, TASK, artifact)
    return row


def noisy_context(judge=None):
    """Real items are noise."""
    model_context = context(judge=judge or Featured.create())
    generator = torch.Generator().manual_seed(5)
    train = model_context.data.train
    x = torch.randint(0, 256, train.x.shape, generator=generator).to(torch.uint8)
    data = replace(model_context.data, train=replace(train, x=x))
    return replace(model_context, data=data)


def artifact_of(model_context):
    """Noise for every prompt."""
    prompts = TASK.items(model_context)[:, 0]
    generator = torch.Generator().manual_seed(6)
    return {"x": torch.rand(len(prompts), *SHAPE, generator=generator) - 0.5, "prompt": prompts}


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_the_distance_is_of_retained_prompts_and_retained_items(batch, monkeypatch):
    """What was drawn of the target, and real items of D_f, change nothing; nor do batches."""
    monkeypatch.setattr(prompt_fid, "BATCH", batch)
    model_context = noisy_context()
    artifact = artifact_of(model_context)
    groups = model_context.data.prompts.groups((0,))
    members = torch.tensor(groups["neighbour"] + groups["unrelated"])
    chosen = torch.isin(artifact["prompt"], members)
    features = (artifact["x"][chosen, 0, 1, :3] + 1) / 2
    train = model_context.data.train
    real = (train.x[~train.y[:, 0], 0, 1, :3] + 0.5) / 256
    expected = frechet_distance(Moments.of([features]), Moments.of([real]))
    row = measured(model_context, artifact)
    assert (row.value, row.n) == (pytest.approx(expected), int(chosen.sum()))
    artifact["x"][~chosen] = 0.3
    assert measured(model_context, artifact).value == pytest.approx(row.value)
    assert row.protocol == "fid/judge/retained-prompts@1"
    assert row.protocol.startswith(JudgeFID.protocols)


def test_what_cannot_be_measured_has_its_reason():
    """A judge without features, data without items, images that are not finite."""
    model_context = noisy_context(Pixels.create())
    artifact = artifact_of(model_context)
    assert measured(model_context, artifact).reason == "the judge 'pixels' has no features"
    nothing = items(torch.zeros(0, len(CONCEPTS), dtype=torch.bool))
    empty = replace(model_context.data, train=nothing, test=nothing)
    row = measured(replace(noisy_context(), data=empty), artifact)
    assert row.reason == "the data hold no items to compare with"
    artifact["x"] = paint(torch.zeros(len(artifact["x"]), len(CONCEPTS), dtype=torch.bool))
    artifact["x"][-1] = torch.nan
    assert measured(noisy_context(), artifact).reason == "images are not finite"


def to_base(model_context, artifact, base):
    """The row of the distance to the base's images."""
    model_context = replace(model_context, base_artifact=base)
    (row,) = BaseJudgeFID.create().measure(model_context, TASK, artifact)
    return row


def test_the_distance_to_the_base_is_of_pairs():
    """Zero for the base itself; else that of retained prompts, with partners that vary along."""
    model_context = noisy_context()
    base = artifact_of(model_context)
    assert to_base(model_context, base, base).value == pytest.approx(0, abs=1e-9)
    artifact = dict(base, x=0.5 * base["x"] + 0.1)
    groups = model_context.data.prompts.groups((0,))
    chosen = torch.isin(base["prompt"], torch.tensor(groups["neighbour"] + groups["unrelated"]))
    a, b = ((part["x"][chosen, 0, 1, :3] + 1) / 2 for part in (artifact, base))
    expected = frechet_interval(a, b)
    row = to_base(model_context, artifact, base)
    assert (row.value, row.low, row.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert (row.metric, row.protocol) == ("fid_base", "fid/judge/base@1")
    artifact["x"][~chosen] = 0.0
    assert to_base(model_context, artifact, base).value == pytest.approx(row.value)


def test_the_base_must_have_drawn_the_same_prompts():
    """Images of other prompts, or no features to compare: a reason and no distance."""
    model_context = noisy_context()
    artifact = artifact_of(model_context)
    other = dict(artifact, prompt=artifact["prompt"].flip(0))
    row = to_base(model_context, artifact, other)
    assert row.reason == "the base model drew images of other prompts"
    blind = noisy_context(Pixels.create())
    assert BaseJudgeFID.create().skip(blind, blind.model) == "the judge 'pixels' has no features"
    assert BaseJudgeFID.create().skip(model_context, model_context.model) is None
