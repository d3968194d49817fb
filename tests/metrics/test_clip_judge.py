"""The zero-shot judge: open_clip's own probabilities, prompts that can be edited, files."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from contexts import CPU, images
from lazy import LazyModule
from tiny_clip import TINY, write_clip
from torch.nn import functional as F

from msgm_bench import Data, Examples, IncompatibleError, OptionError, StorageError
from msgm_bench.testing import check_judge
from msgm_builtin import weights_files
from msgm_builtin.embedders.clip_files import CARD
from msgm_builtin.judges.augmentation import pixels
from msgm_builtin.judges.clip import ClipJudge

open_clip = LazyModule("open_clip")


def doubled(examples):
    """Images of 16 px, which the tiny model takes as they are."""
    x = examples.x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    return Examples(x, examples.y)


CATS = Data(doubled(images(40, 3, 1)), doubled(images(24, 3, 2)), ("Cat", "Dog", "House", "7"), 17)
CASES = replace(CATS, classes=("Cat", "cat", "House", "7"))
GENERATOR = torch.Generator().manual_seed(0)
TRAITS = replace(
    CATS,
    train=Examples(CATS.train.x, torch.rand(40, 2, generator=GENERATOR) < 0.5),
    test=Examples(CATS.test.x, torch.rand(24, 2, generator=GENERATOR) < 0.5),
    classes=("Bangs", "Wearing_Hat"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The model's folder."""
    return write_clip(tmp_path_factory.mktemp("vit_tiny"))


def reference(folder, x, groups):
    """open_clip called directly: 100 times the cosines, each group's texts averaged, ``[N, K]``."""
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    normal = open_clip.get_model_preprocess_cfg(model)
    mean, std = (torch.tensor(normal[k]).reshape(3, 1, 1) for k in ("mean", "std"))
    columns = []
    with torch.no_grad():
        for texts in groups:
            embeddings = F.normalize(model.encode_text(tokenizer(list(texts))), dim=1)
            columns.append(F.normalize(embeddings.mean(dim=0), dim=0))
        seen = F.normalize(model.encode_image((x - mean) / std), dim=1)
        return model.logit_scale.exp() * seen @ torch.stack(columns, dim=1)


def fitted(folder, data, **options):
    """A judge that has seen ``data``."""
    judge = ClipJudge.create({"path": str(folder), **options})
    judge.check(data)
    judge.fit(data, 0, CPU)
    return judge


def test_conformance(folder):
    """It passes the checks of ``msgm_bench.testing``, for classes and for attributes."""
    for data in (CATS, TRAITS):
        check_judge(ClipJudge, data, {"path": str(folder)})


def test_probabilities_are_those_of_open_clip(folder):
    """Templates, words in place of a name, prompts of nothing: the same to 1e-5."""
    templates = ("a picture of a {}", "one {}, drawn")
    options = {
        "template": templates,
        "prompts": {"7": "handwritten seven", "cat": "tabby cat"},
        "unrecognisable_prompts": ("noise", "static"),
    }
    judge, x = fitted(folder, CATS, **options), pixels(CATS, CATS.test.x)
    words = ("tabby cat", "dog", "house", "handwritten seven")
    groups = [[t.format(w) for t in templates] for w in words] + [["noise"], ["static"]]
    expected = reference(folder, x, groups).softmax(dim=1)
    torch.testing.assert_close(judge.logits(x).softmax(dim=1), expected, rtol=0, atol=1e-5)
    prediction = judge.predict(x)
    assert torch.equal(prediction.classes, expected[:, :4].argmax(dim=1))
    assert torch.equal(prediction.recognised, expected.argmax(dim=1) < 4)
    assert float(expected.std(dim=0).min()) > 0


def test_a_prompt_is_that_of_the_class_of_just_this_name(folder):
    """Classes that differ in case alone keep prompts of their own; any case does for the others."""
    judge = fitted(folder, CASES, prompts={"cat": "a kitten", "Cat": "a lion", "house": "a hut"})
    assert [words for words, _ in judge.texts(CASES)][:4] == ["a lion", "a kitten", "a hut", "7"]


def test_attributes_are_pairs_of_prompts(folder):
    """An attribute is there where the prompt with it is nearer than the prompt without it."""
    judge = fitted(folder, TRAITS, prompts={"bangs": ("hair over the forehead", "a bare forehead")})
    x = pixels(TRAITS, TRAITS.test.x)
    groups = [
        ["hair over the forehead"],
        ["a photo of a person with wearing hat"],
        ["a bare forehead"],
        ["a photo of a person without wearing hat"],
        *([text] for text in judge.options.unrecognisable_prompts),
    ]
    expected = reference(folder, x, groups)
    torch.testing.assert_close(judge.logits(x), expected, rtol=0, atol=1e-4)
    prediction = judge.predict(x)
    assert torch.equal(prediction.classes, expected[:, :2] > expected[:, 2:4])
    assert torch.equal(prediction.recognised, expected.argmax(dim=1) < 4)
    assert "balanced" in judge.criterion
    truth = TRAITS.test.y[:, 0]
    output = prediction.classes[:, 0]
    balanced = (output[truth].double().mean() + (~output[~truth]).double().mean()) / 2
    assert judge.quality([0]) == pytest.approx(float(balanced))


def test_one_template_needs_no_list(folder):
    """A single text stands for a list of one."""
    assert ClipJudge.create({"template": "the {}"}).options.template == ("the {}",)
    a = fitted(folder, CATS, template="the {}").prompts
    b = fitted(folder, CATS, template=["the {}"]).prompts
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"template": "a photo"}, "no place"),
        ({"absent_template": ["without {name}"]}, "no place"),
        ({"unrecognisable_prompts": []}, "1 or more entries"),
        ({"prompts": {"Cat": ["one", "two", "three"]}}, "prompts"),
    ],
)
def test_prompts_that_make_no_sense_are_refused(options, words):
    """The error names the option and what is wrong with it."""
    with pytest.raises(OptionError, match=words):
        ClipJudge.create(options)


def test_prompts_and_data_must_fit(folder):
    """Words for a class that is not there, two texts for a class, points, one class."""
    for options, data, error, words in (
        ({"prompts": {"Horse": "horse"}}, CATS, OptionError, r"'Horse' is no class\nallowed: Cat"),
        ({"prompts": {"Cat": "a", "CAT": "b"}}, CATS, OptionError, "'Cat' has two"),
        ({"prompts": {"CAT": "a"}}, CASES, OptionError, "'CAT' may be any of several classes"),
        ({"prompts": {"Cat": ("a", "b")}}, CATS, OptionError, "two texts for the class 'Cat'"),
        ({}, replace(CATS, levels=None), IncompatibleError, "images"),
        ({}, replace(CATS, classes=("Cat",)), IncompatibleError, "one class"),
    ):
        with pytest.raises(error, match=words):
            ClipJudge.create({"path": str(folder), **options}).check(data)


def test_weights_enter_the_protocol_and_paths_do_not(folder, tmp_path):
    """The same files elsewhere are the same judge; other weights are another one."""
    judge = ClipJudge.create({"path": str(folder)})
    other_folder = tmp_path / "elsewhere"
    other_folder.mkdir()
    for name in (CARD, "open_clip_pytorch_model.bin"):
        (other_folder / name).write_bytes((folder / name).read_bytes())
    other = ClipJudge.create({"path": str(other_folder)})
    assert judge.protocol() == other.protocol()
    assert judge.protocol()["weights"] == judge.checksum()
    card = json.loads((other_folder / CARD).read_text())
    card["preprocess_cfg"]["mean"] = [0.5, 0.5, 0.5]
    (other_folder / CARD).write_text(json.dumps(card))
    assert judge.protocol() != other.protocol()
    assert judge.options.model_dump() == other.options.model_dump()


def test_files_that_are_not_there_are_missing(tmp_path, monkeypatch):
    """The reason names the model, where it is looked for and how to get it."""
    monkeypatch.setenv(weights_files.VARIABLE, str(tmp_path))
    judge = ClipJudge.create({"repo": "somebody/vit_gone"})
    reason = judge.missing_weights()
    for words in ("somebody/vit_gone", "hf download somebody/vit_gone", weights_files.VARIABLE):
        assert words in reason
    assert judge.checksum() == ""


def test_files_of_another_network_are_refused(folder, tmp_path):
    """Weights that do not fit the card, a tokenizer that is elsewhere, a text encoder too small."""
    card = {"model_cfg": TINY, "preprocess_cfg": {}}
    weights_file = (folder / "open_clip_pytorch_model.bin").read_bytes()

    def written(name, change):
        place = tmp_path / name
        place.mkdir()
        (place / CARD).write_text(json.dumps(card | {"model_cfg": TINY | change}))
        (place / "open_clip_pytorch_model.bin").write_bytes(weights_file)
        return ClipJudge.create({"path": str(place)})

    with pytest.raises(StorageError, match="is no CLIP model"):
        written("wide", {"embed_dim": 24}).check(CATS)
    small = tmp_path / "small"
    small.mkdir()
    write_clip(small, TINY | {"text_cfg": TINY["text_cfg"] | {"vocab_size": 50}})
    with pytest.raises(StorageError, match="cannot read the prompts"):
        ClipJudge.create({"path": str(small)}).check(CATS)


def test_grey_images_are_judged(folder):
    """They have three equal channels."""
    grey = replace(
        CATS,
        train=doubled(images(40, 1, 1)),
        test=doubled(images(24, 1, 2)),
    )
    judge, x = fitted(folder, grey), pixels(grey, grey.test.x)
    torch.testing.assert_close(judge.logits(x), judge.logits(x.repeat(1, 3, 1, 1)))
    assert judge.features(x).shape == (24, 16)
