"""Captioned images of a user: metadata as diffusers reads them, UnlearnCanvas's folders."""

from __future__ import annotations

import csv
import json

import fake_data
import numpy as np
import pytest
import torch
from PIL import Image

from msgm_bench import MsgmBenchError, UsageError
from msgm_bench.experiment.loaded_data import load as load_once
from msgm_bench.testing import check_dataset
from msgm_text.datasets.captions import Captions

TEXTS = ["a red circle", "a Blue square", "a circle and a square", "a disc", "circles"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The user's data folder, with a cache of its own."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("MSGM_BENCH_DATA", str(folder))
    monkeypatch.setenv("MSGM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    load_once.cache_clear()
    return folder


def write_metadata(folder, rows, kind="jsonl"):
    """A metadata file of ``rows``."""
    path = folder / f"metadata.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def rows(count=20, **more):
    """Captions of the first images, the five texts in turn."""
    return [
        {
            "file_name": f"{i:03d}.png",
            "text": TEXTS[i % 5],
            **{k: v[i % 5] for k, v in more.items()},
        }
        for i in range(count)
    ]


def load(**options):
    """The data."""
    return Captions.create({"concepts": ["circle", "square"], **options}).load()


def captions_of(data, items):
    """The texts of items."""
    return [data.prompts[i].text for i in items.c.tolist()]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_metadata_are_read(place, kind):
    """Pixels, captions and concepts of every image; every fifth is held out."""
    fake_data.write_images(place, 20)
    write_metadata(place, rows(), kind)
    data = load()
    held = [4, 9, 14, 19]
    train = [i for i in range(20) if i not in held]
    pixels = [np.array(Image.open(place / f"{i:03d}.png")).transpose(2, 0, 1) for i in train]
    assert torch.equal(data.train.x, torch.from_numpy(np.stack(pixels)))
    assert captions_of(data, data.train) == [TEXTS[i % 5] for i in train]
    assert captions_of(data, data.test) == ["circles"] * 4
    shown = {"a red circle": (1, 0), "a Blue square": (0, 1), "a circle and a square": (1, 1)}
    wanted = [shown.get(TEXTS[i % 5], (0, 0)) for i in train]
    assert data.train.y.tolist() == [[bool(value) for value in row] for row in wanted]
    assert data.classes == data.prompts.concepts == ("circle", "square")


def test_prompts_of_a_concept_are_some_of_its_captions(place):
    """Without prompts in a file, captions test the concepts that they ask for."""
    fake_data.write_images(place, 20)
    write_metadata(place, rows())
    book = load().prompts
    tests = [(p.text, p.concept) for p in book if p.group == "target"]
    assert tests == [
        ("a red circle", 0),
        ("a circle and a square", 0),
        ("a Blue square", 1),
        ("a circle and a square", 1),
    ]


def test_conformance(place):
    """The dataset passes the checks of ``msgm_bench.testing``."""
    fake_data.write_images(place, 30)
    names = [["circle"], ["square"], ["square", "circle"]]
    write_metadata(
        place,
        [
            {"file_name": f"{i:03d}.png", "text": f"number {i % 6}", "concepts": names[i % 3]}
            for i in range(30)
        ],
    )
    check_dataset(Captions)


def test_a_column_of_concepts_goes_before_the_words(place):
    """What the metadata say that an image shows holds, whatever its caption."""
    fake_data.write_images(place, 20)
    write_metadata(place, rows(concepts=["cat", "cat, dog", "", "dog", "dog"]), "csv")
    data = load(concepts=None)
    assert data.classes == ("cat", "dog")
    assert data.train.y[:5].tolist() == [
        [True, False],
        [True, True],
        [False, False],
        [False, True],
        [True, False],
    ]


def test_a_file_of_concepts_brings_synonyms_domains_and_prompts(place):
    """Synonyms are found in captions; prompts of the file take the place of captions as tests."""
    fake_data.write_images(place, 20)
    write_metadata(place, rows())
    (place / "shapes.yaml").write_text(
        "concepts:\n"
        "  circle: {domain: shape, anchor: square, synonyms: [disc, circles],"
        " prompts: {target: [one circle]}}\n"
        "  square: {domain: shape}\n"
    )
    data = load(concepts="shapes.yaml")
    assert data.train.y[:, 0].tolist() == [
        TEXTS[i % 5] != "a Blue square" for i in range(20) if i % 5 != 4
    ]
    assert data.test.y.tolist() == [[True, False]] * 4
    assert data.prompts.anchors == {"circle": "square"}
    assert data.prompts.domains == {"shape": ("circle", "square")}
    assert [p.text for p in data.prompts if p.concept == 0] == ["one circle"]


def test_parts_of_one_s_own(place):
    """Metadata in train and test say what is held out."""
    for part, count in (("train", 10), ("test", 5)):
        fake_data.write_images(place / part, count, seed=count)
        write_metadata(place / part, rows(count))
    data = load()
    assert (len(data.train), len(data.test)) == (10, 5)
    assert data.protocol == "captions/own@1/upright-on-white@1"
    assert captions_of(data, data.test) == TEXTS


def test_images_are_brought_to_one_size(place):
    """Images of several sizes need a resolution, and have it."""
    fake_data.write_images(place, 10)
    Image.fromarray(fake_data.pixels(20, 30, 3)).save(place / "003.png")
    write_metadata(place, rows(10))
    with pytest.raises(UsageError, match="images of 2 sizes: 16x16, 30x20"):
        load()
    assert load(resolution=8).shape == (3, 8, 8)


def test_unlearncanvas_s_folders(place):
    """Styles and objects by folders, every fifth of each pair held out, photos without a style."""
    names = ("Van_Gogh", "Monet", "Seed_Images")
    for i, (style, kind) in enumerate((s, o) for s in names for o in ("Dogs", "Sea")):
        fake_data.write_images(place / style / kind, 5, seed=100 * i, suffix=".jpg")
    data = load(layout="unlearncanvas", concepts=None)
    assert data.classes == ("Monet", "Van Gogh", "Dogs", "Sea")
    assert (len(data.train), len(data.test)) == (24, 6)
    assert captions_of(data, data.test) == [
        "A Dogs image in Monet style.",
        "A Sea image in Monet style.",
        "A Dogs image in Photo style.",
        "A Sea image in Photo style.",
        "A Dogs image in Van Gogh style.",
        "A Sea image in Van Gogh style.",
    ]
    assert data.test.y.tolist()[2] == [False, False, True, False]
    assert data.prompts.anchors == {"Monet": "Photo", "Van Gogh": "Photo"}
    groups = data.prompts.groups([data.classes.index("Van Gogh")])
    sizes = {name: len(rows) for name, rows in groups.items() if rows}
    assert sizes == {"target": 2, "neighbour": 2, "unrelated": 4}


def spoil(place, **change):
    """Metadata in which the second row has another value."""
    fake_data.write_images(place, 10)
    lines = rows(10)
    lines[1] |= change
    write_metadata(place, lines)


WRONG = [
    ({"file_name": "../../etc/passwd"}, "line 2: no image ../../etc/passwd"),
    ({"file_name": "099.png"}, "line 2: no image 099.png"),
    ({"file_name": None}, "line 2 has no text 'file_name'"),
    ({"file_name": "000.png"}, "images with two captions"),
    ({"text": ""}, "line 2: text is empty"),
    ({"text": 3}, "line 2 has no text 'text'"),
    ({"text": "x" * 2001}, "2,001 letters"),
    ({"text": "two\nlines"}, "line breaks"),
    ({"concepts": 3}, "line 2: concepts 3"),
    ({"concepts": ["cat"]}, "001.png shows 'cat', which is none of the concepts"),
    ({"concepts": ["circle", ""]}, "line 2: concepts is empty"),
]


@pytest.mark.parametrize(("change", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_wrong_metadata_are_refused_with_their_line(place, change, reason):
    """The error names the file, the line and what is wrong."""
    spoil(place, **change)
    with pytest.raises(MsgmBenchError) as error:
        load()
    assert reason in str(error.value)
    assert str(place) in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (
            "metadata.jsonl",
            '{"file_name": "000.png", "file_name": "x"}',
            "line 1 is not valid",
        ),
        ("metadata.jsonl", "[]", "line 1 holds list"),
        ("metadata.jsonl", "", "no image has a caption"),
        ("metadata.csv", "file_name,text,text\n000.png,a,b\n", "two columns are called 'text'"),
        ("metadata.csv", "name,text\n000.png,a\n", "row 1 has no text 'file_name'"),
        ("captions.txt", "a", "holds none of the files of captions"),
    ],
)
def test_what_is_no_metadata_is_refused(place, name, text, reason):
    """Damaged files, other files, and other columns."""
    fake_data.write_images(place, 1)
    (place / name).write_text(text)
    with pytest.raises(MsgmBenchError) as error:
        load()
    assert reason in str(error.value)


def test_two_kinds_of_metadata_are_refused(place):
    """Which of them is meant is not guessed."""
    fake_data.write_images(place, 20)
    write_metadata(place, rows(), "csv")
    write_metadata(place, rows(), "jsonl")
    with pytest.raises(MsgmBenchError, match=r"metadata.jsonl, metadata.csv of the files"):
        load()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"concepts": None}, "no concepts: the metadata"),
        ({"concepts": "shapes.yaml"}, "no file of concepts shapes.yaml"),
        ({"concepts": ["circle", "star"]}, "no caption asks for 'star'"),
        ({"concepts": ["circle", "Circle"]}, "differ in case alone"),
        ({"folder": "nowhere"}, "no folder of images"),
        ({"test_stride": 30}, "fewer than 30 images"),
        ({"layout": "unlearncanvas"}, "does not lie in STYLE/OBJECT"),
    ],
)
def test_options_that_do_not_fit_are_refused(place, options, reason):
    """The error says what is missing."""
    fake_data.write_images(place, 20)
    write_metadata(place, rows())
    with pytest.raises(MsgmBenchError) as error:
        load(**options)
    assert reason in str(error.value)


def test_images_without_a_caption_are_refused(place):
    """An image that no row names is not silently left out."""
    fake_data.write_images(place, 21)
    write_metadata(place, rows(20))
    with pytest.raises(MsgmBenchError, match=r"without a caption: 1: 020\.png"):
        load()
