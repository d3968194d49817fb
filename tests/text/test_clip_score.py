"""CLIPScore is torchmetrics' own, of each group of prompts, or null with its reason."""

from __future__ import annotations

import pytest
import torch
from lazy import LazyModule
from prompt_contexts import SHAPE, context, named
from tiny_clip import write_clip

from msgm_bench import MeasuredRows
from msgm_builtin.embedders import clip_files
from msgm_text.metrics.clip_score import ClipScore
from msgm_text.tasks.prompt_generation import PromptGeneration

torchmetrics_clip = LazyModule("torchmetrics.functional.multimodal")

TASK = PromptGeneration.create({"images_per_prompt": 3})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny CLIP with random weights."""
    return write_clip(tmp_path_factory.mktemp("vit_tiny"))


def artifact_of(model_context):
    """Random images of every prompt, in model space."""
    prompts = TASK.items(model_context)[:, 0]
    generator = torch.Generator().manual_seed(2)
    return {"x": 2 * torch.rand(len(prompts), *SHAPE, generator=generator) - 1, "prompt": prompts}


class Processor:
    """torchmetrics' processor: open_clip's tokenizer, and the embedder's own resizing."""

    def __init__(self, clip):
        self.clip, self.tokenizer = clip, clip_files.tokenizer(clip)

    def __call__(self, text=None, images=None, **options):
        """Tokens, or images as they are."""
        if text is not None:
            tokens = self.tokenizer(text)
            return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        return {"pixel_values": torch.stack([torch.as_tensor(x) for x in images])}


class Network(torch.nn.Module):
    """The model as torchmetrics calls it."""

    def __init__(self, clip):
        super().__init__()
        self.clip, self.config = clip, None

    def get_image_features(self, pixel_values):
        """Image embeddings."""
        return self.clip.image_features(pixel_values)

    def get_text_features(self, input_ids, attention_mask=None):
        """Text embeddings."""
        return self.clip.network.encode_text(input_ids)


@torch.no_grad()
def test_the_score_is_that_of_torchmetrics(folder):
    """The mean of 100 cos over the images of each group, clamped at zero."""
    options = {"embedder_options": {"path": str(folder)}}
    model_context = context()
    artifact = artifact_of(model_context)
    rows = named(ClipScore.create(options).measure(model_context, TASK, artifact))
    clip = clip_files.load(clip_files.ClipOptions(path=str(folder)), torch.device("cpu"))
    x = model_context.model.codec.decode(artifact["x"])
    book = model_context.data.prompts
    groups = book.groups((0,))
    groups["retained"] = groups["neighbour"] + groups["unrelated"]
    for group, members in groups.items():
        if not members:
            assert f"clip_score_{group}" not in rows
            continue
        chosen = torch.isin(artifact["prompt"], torch.tensor(members))
        texts = [book[i].text for i in artifact["prompt"][chosen].tolist()]
        expected = torchmetrics_clip.clip_score(
            list(x[chosen]), texts, lambda: (Network(clip), Processor(clip))
        )
        row = rows["clip_score" if group == "retained" else f"clip_score_{group}"]
        assert row.value == pytest.approx(float(expected), abs=1e-4)
        assert row.n == len(texts)


def test_directions_and_protocol(folder):
    """Retained prompts go up, those to forget nowhere; the model's name is in the protocol."""
    metric = ClipScore.create({"embedder_options": {"path": str(folder)}})
    model_context = context()
    rows = metric.measure(model_context, TASK, artifact_of(model_context))
    assert (rows[0].metric, rows[0].direction) == ("clip_score", "up")
    assert named(rows)["clip_score_target"].direction == "none"
    assert metric.protocol(model_context, TASK).settings["embedder"]["name"] == "clip"


def test_absent_weights_and_broken_images_are_reasons(folder, tmp_path, monkeypatch):
    """A null row says which model is missing; null rows, that images are not finite."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    model_context = context()
    artifact = artifact_of(model_context)
    options = {"embedder_options": {"repo": "nobody/no-such-model"}}
    rows = ClipScore.create(options).measure(model_context, TASK, artifact)
    (row,) = rows
    assert row.value is None
    assert "no-such-model" in row.reason
    artifact["x"][:] = torch.nan
    options = {"embedder_options": {"path": str(folder)}}
    rows = ClipScore.create(options).measure(model_context, TASK, artifact)
    assert all(row.value is None and "not finite" in row.reason for row in rows)


def test_a_score_above_100_is_impossible(folder):
    """A cosine is at most one."""
    options = {"embedder_options": {"path": str(folder)}}
    model_context = context()
    row = ClipScore.create(options).measure(model_context, TASK, artifact_of(model_context))[0]
    row = row.model_copy(update={"value": 101.0})
    measured = MeasuredRows({"samples": {"clip_score": row}}, {}, {})
    (violation,) = ClipScore.violations(measured)
    assert "clip_score on samples" in violation
