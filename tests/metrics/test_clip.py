"""CLIP features are open_clip's own, and the distance between them."""

from __future__ import annotations

import json

import open_clip
import pytest
import torch
from PIL import Image
from subjects import CPU, Quadrants, perfect, subject
from tiny_clip import TINY, write_clip
from torch.nn import functional as F

from msgm_bench import StorageError
from msgm_metrics import weights
from msgm_metrics.clip import CLIP
from msgm_metrics.clip_distance import ClipDistance
from msgm_metrics.clip_files import CARD
from msgm_metrics.inpainting import Inpaint

JUDGE = Quadrants()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model with random weights in open_clip's own format: card and weights."""
    return write_clip(tmp_path_factory.mktemp("vit_tiny"))


def images(channels, size):
    """Three images of 8-bit values in [0, 1]."""
    generator = torch.Generator().manual_seed(size)
    grey = torch.randint(0, 256, (3, channels, size, size), generator=generator)
    return F.avg_pool2d(grey.float(), 3, stride=1, padding=1).round() / 255


@pytest.mark.parametrize(("size", "tolerance"), [(16, 1e-5), (28, 2e-2), (9, 2e-2)])
def test_features_are_those_of_open_clip(folder, size, tolerance):
    """open_clip's own model and transform give the same; resizing in eight bits is a little off."""
    reference, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    x = images(3, size)
    pictures = [Image.fromarray((v * 255).byte().permute(1, 2, 0).numpy()) for v in x]
    with torch.no_grad():
        batch = torch.stack([transform(picture) for picture in pictures])
        expected = reference.eval().encode_image(batch)
    embedder = CLIP.create({"path": str(folder)})
    embedder.load(JUDGE, CPU)
    found = embedder.embed(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    assert float((expected[0] - expected[1]).norm()) > 5 * tolerance


def test_grey_images_have_three_channels(folder):
    """A grey image is embedded as the colour image of three equal channels."""
    embedder = CLIP.create({"path": str(folder)})
    embedder.load(JUDGE, CPU)
    x = images(1, 16)
    assert torch.equal(embedder.embed(x), embedder.embed(x.repeat(1, 3, 1, 1)))


def test_weights_alone_need_the_name_of_the_network(folder, tmp_path):
    """A weights file goes with an architecture that open_clip knows; the wrong one is an error."""
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path / "tiny.json")
    file = folder / "open_clip_pytorch_model.bin"
    embedder = CLIP.create({"path": str(file), "model": "tiny"})
    embedder.load(JUDGE, CPU)
    assert embedder.embed(images(3, 16)).shape == (3, 16)
    assert embedder.protocol()["weights"] == embedder.checksum()[:8] != ""
    with pytest.raises(StorageError, match=r"is no CLIP model: \w.*[^:]\n.*model=NAME"):
        CLIP.create({"path": str(file), "model": "ViT-S-32"}).load(JUDGE, CPU)


def test_a_folder_named_as_the_repository_is_found(folder, tmp_path, monkeypatch):
    """In the data folder it needs no option; half a folder is no model; nothing is downloaded."""
    monkeypatch.setenv(weights.VARIABLE, str(tmp_path))
    embedder = CLIP.create({"repo": "somebody/vit_tiny"})
    assert "`hf download somebody/vit_tiny`" in embedder.missing(JUDGE)
    (tmp_path / "vit_tiny").mkdir()
    (tmp_path / "vit_tiny" / CARD).write_text((folder / CARD).read_text())
    assert "is not there" in embedder.missing(JUDGE)
    (tmp_path / "vit_tiny" / "open_clip_pytorch_model.bin").symlink_to(
        folder / "open_clip_pytorch_model.bin"
    )
    assert embedder.missing(JUDGE) is None


@pytest.mark.parametrize("distance", ["l2", "cosine"])
def test_distance_is_the_mean_over_retain_images(distance, folder):
    """0 for exact restorations, else the mean of open_clip's own distances; down is good."""
    given, task = subject(channels=3), Inpaint.create({"count": 6})
    options = {"distance": distance, "options": {"path": str(folder)}}
    metric = ClipDistance.create(options)
    artifact = perfect(given, task)
    (row,) = metric.measure(given, task, artifact)
    assert row.value == pytest.approx(0, abs=1e-6)
    artifact["x"][:, :, :4] = 0.2
    (row,) = metric.measure(given, task, artifact)
    embedder = CLIP.create({"path": str(folder)})
    embedder.load(JUDGE, CPU)
    sets = (artifact["x"][:6], given.visible(given.retain)[:6])
    a, b = (embedder.embed(x).double() for x in sets)
    each = (a - b).norm(dim=1) if distance == "l2" else 1 - F.cosine_similarity(a, b)
    assert row.value == pytest.approx(float(each.mean()), rel=1e-6)
    assert row.low < row.value < row.high
    assert (row.split, row.direction) == ("retain", "down")
    assert row.protocol == f"clip/{distance}/inpainting@1"


def test_distance_without_a_model_is_a_dash():
    """Without the files the cell is null, and the reason says what to do."""
    given, task = subject(), Inpaint.create({"count": 6})
    metric = ClipDistance.create({"options": {"repo": "somebody/gone"}})
    (row,) = metric.measure(given, task, perfect(given, task))
    assert row.value is None
    assert "hf download" in row.reason
