"""CLIP features are open_clip's own, and the distance between them."""

from __future__ import annotations

import json

import pytest
import torch
from contexts import CPU, Quadrants, context, perfect
from lazy import LazyModule
from PIL import Image
from safetensors.torch import save_file
from tiny_clip import CODE, TINY, write_clip
from torch.nn import functional as F

from msgm_bench import IncompatibleError, StorageError
from msgm_builtin import weights_files
from msgm_builtin.embedders.clip import CLIP
from msgm_builtin.embedders.clip_files import CARD
from msgm_builtin.metrics.clip_distance import ClipDistance
from msgm_builtin.tasks.inpainting import InpaintingTask

open_clip = LazyModule("open_clip")

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
    actual = embedder.embed(x)
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)
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


TEXT, VISION = TINY["text_cfg"], TINY["vision_cfg"]
ODD = [
    ({"text_cfg": TEXT | {"tokenizer_kwargs": {"trust_remote_code": True}}}, "tokenizer_kwargs"),
    ({"text_cfg": TEXT | {"hf_tokenizer_name": "someone/words"}}, "hf_tokenizer_name"),
    ({"text_cfg": TEXT | {"hf_model_name": "someone/evil"}}, "hf_model_name"),
    ({"vision_cfg": VISION | {"timm_model_name": "hf-hub:someone/evil"}}, "timm_model_name"),
    ({"vision_cfg": VISION | {"width": 10**6}}, "vision_cfg.width = 1000000"),
    ({"vision_cfg": VISION | {"layers": 10**9}}, "vision_cfg.layers"),
    ({"text_cfg": TEXT | {"norm_kwargs": {"dtype": 1}}}, "norm_kwargs.dtype"),
    ({"multimodal_cfg": {"width": 8}}, "multimodal_cfg"),
    ({"embed_dim": "16"}, "embed_dim"),
]


@pytest.mark.parametrize(("change", "key"), ODD, ids=lambda value: str(value)[:20])
def test_cards_that_are_not_understood_are_refused(folder, tmp_path, change, key):
    """Tokenizers and towers of other libraries, absurd sizes, unknown fields: named, not passed."""
    write_clip(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps(card | {"model_cfg": TINY | change}))
    with pytest.raises(IncompatibleError, match=key.replace(".", r"\.")):
        CLIP.create({"path": str(tmp_path)}).load(JUDGE, CPU)


@pytest.mark.parametrize(
    "change", [{"interpolation": "bilinear"}, {"resize_mode": "longest"}, {"std": [0.3, 0, 0.3]}]
)
def test_images_are_prepared_as_the_card_says_or_not_at_all(tmp_path, change):
    """Another way of resizing than ours, and a deviation of zero, are refused."""
    write_clip(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    card["preprocess_cfg"] |= change
    (tmp_path / CARD).write_text(json.dumps(card))
    with pytest.raises(IncompatibleError, match=next(iter(change))):
        CLIP.create({"path": str(tmp_path)}).load(JUDGE, CPU)


@pytest.mark.parametrize(
    "change",
    [
        {"quick_gelu": True},
        {"custom_text": True, "init_logit_bias": -10.0},
        {"text_cfg": TEXT | {"act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 0.01}}},
        {"vision_cfg": {"timm_model_name": "test_vit", "timm_pool": "", "image_size": 160}},
    ],
    ids=["quick", "custom", "kwargs", "timm"],
)
def test_every_field_means_what_it_means_to_open_clip(tmp_path, change):
    """Image and text features of safetensors are those of open_clip's own loader."""
    config = TINY | change
    torch.manual_seed(1)
    (tmp_path / "tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny.json")
    made = open_clip.create_model("tiny")
    (tmp_path / CARD).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": CODE}))
    save_file(made.state_dict(), tmp_path / "open_clip_model.safetensors")
    reference = open_clip.create_model(f"local-dir:{tmp_path}").eval()
    embedder = CLIP.create({"path": str(tmp_path)})
    embedder.load(JUDGE, CPU)
    x, words = torch.rand(2, 3, *embedder.clip.size), open_clip.tokenize(["a", "b c"], 24)
    with torch.no_grad():
        mine, theirs = embedder.clip.network, reference
        torch.testing.assert_close(mine.encode_image(x), theirs.encode_image(x))
        torch.testing.assert_close(mine.encode_text(words), theirs.encode_text(words))
    normal = open_clip.get_model_preprocess_cfg(reference)
    assert embedder.clip.mean.flatten().tolist() == pytest.approx(normal["mean"])
    assert embedder.clip.size[0] == reference.visual.image_size[0]


def test_files_stay_in_their_folder(tmp_path):
    """A link out of a folder that was named is not followed; a pipe does not hang."""
    write_clip(tmp_path)
    weights_file = tmp_path / "open_clip_pytorch_model.bin"
    outside = weights_file.rename(tmp_path.parent / "outside.bin")
    weights_file.symlink_to(outside)
    with pytest.raises(StorageError, match="leads out of its folder"):
        CLIP.create({"path": str(tmp_path)}).load(JUDGE, CPU)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    """The tensor is named."""
    write_clip(tmp_path)
    file = tmp_path / "open_clip_pytorch_model.bin"
    state = torch.load(file)
    state["visual.proj"][0, 0] = torch.nan
    torch.save(state, file)
    with pytest.raises(StorageError, match=r"not finite: visual\.proj"):
        CLIP.create({"path": str(tmp_path)}).load(JUDGE, CPU)


def test_a_folder_with_the_name_of_the_repository_is_read(folder, tmp_path, monkeypatch):
    """In the data folder it needs no option; half a folder is no model; nothing is downloaded."""
    monkeypatch.setenv(weights_files.VARIABLE, str(tmp_path))
    embedder = CLIP.create({"repo": "somebody/vit_tiny"})
    assert "`hf download somebody/vit_tiny`" in embedder.missing_weights(JUDGE)
    (tmp_path / "vit_tiny").mkdir()
    (tmp_path / "vit_tiny" / CARD).write_text((folder / CARD).read_text())
    assert "is not on this machine" in embedder.missing_weights(JUDGE)
    (tmp_path / "vit_tiny" / "open_clip_pytorch_model.bin").symlink_to(
        folder / "open_clip_pytorch_model.bin"
    )
    assert embedder.missing_weights(JUDGE) is None


@pytest.mark.parametrize("distance", ["l2", "cosine"])
def test_distance_is_the_mean_over_retain_images(distance, folder):
    """0 for exact restorations, else the mean of open_clip's own distances; down is good."""
    model_context, task = context(channels=3), InpaintingTask.create({"count": 6})
    options = {"distance": distance, "embedder_options": {"path": str(folder)}}
    metric = ClipDistance.create(options)
    artifact = perfect(model_context, task)
    (row,) = metric.measure(model_context, task, artifact)
    assert row.value == pytest.approx(0, abs=1e-6)
    artifact["x"][:, :, :4] = 0.2
    (row,) = metric.measure(model_context, task, artifact)
    embedder = CLIP.create({"path": str(folder)})
    embedder.load(JUDGE, CPU)
    sets = (artifact["x"][:6], model_context.visible(model_context.retain)[:6])
    a, b = (embedder.embed(x).double() for x in sets)
    distances = (a - b).norm(dim=1) if distance == "l2" else 1 - F.cosine_similarity(a, b)
    assert row.value == pytest.approx(float(distances.mean()), rel=1e-6)
    assert row.low < row.value < row.high
    assert (row.split, row.direction) == ("retain", "down")
    assert row.protocol == f"clip/{distance}/inpainting@1"


def test_distance_without_a_model_is_a_dash():
    """Without the files the cell is null, and the reason says what to do."""
    model_context, task = context(), InpaintingTask.create({"count": 6})
    metric = ClipDistance.create({"embedder_options": {"repo": "somebody/gone"}})
    (row,) = metric.measure(model_context, task, perfect(model_context, task))
    assert row.value is None
    assert "hf download" in row.reason
