"""What lies in a user's folder: links, leftovers, parts, and that nothing vanishes unsaid."""

from __future__ import annotations

import os
import shutil
import socket

import fake_data
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from msgm_bench import StorageError, UsageError
from msgm_builtin.datasets import files, images, walk
from msgm_builtin.datasets.image_folder import ImageFolder
from msgm_builtin.datasets.walk import describe


def load(**options):
    """The data."""
    return ImageFolder.create(options).load()


def flat(folder, grey, count=10):
    """Uncompressed pictures of one grey level, all of one time and one size."""
    folder.mkdir(parents=True)
    for i in range(count):
        path = folder / f"{i:03d}.pgm"
        path.write_bytes(b"P5 8 8 255\n" + bytes([grey + i]) * 64)
        os.utime(path, ns=(10**18, 10**18))


@pytest.fixture
def animals(place):
    """Five cats and five dogs of 16x16 px."""
    fake_data.write_images(place / "cat", 5)
    fake_data.write_images(place / "dog", 5, seed=100)
    return place


# Identity ---------------------------------------------------------------------------------


def test_folders_that_swap_their_names(place):
    """Pictures of equal names, sizes and times are known by their bytes."""
    flat(place / "cat", 10)
    flat(place / "dog", 100)
    first = load()
    assert int(first.train.x[first.train.y == 0].max()) < 50
    (place / "cat").rename(place / "tmp")
    (place / "dog").rename(place / "cat")
    (place / "tmp").rename(place / "dog")
    second = load()
    assert int(second.train.x[second.train.y == 0].min()) >= 100
    assert not torch.equal(first.train.x, second.train.x)


def test_another_folder_of_equal_names(place, tmp_path):
    """A second folder of equal names has its own pictures; a copy of the first has the same."""
    for name, grey in (("one", 10), ("two", 60)):
        flat(tmp_path / name / "cat", grey)
        flat(tmp_path / name / "dog", 120 + grey)
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    first, second, copy = (load(folder=str(tmp_path / name)) for name in ("one", "two", "copy"))
    assert torch.equal(first.train.x, copy.train.x)
    assert (second.train.x.int() - first.train.x.int() == 50).all()


def test_an_own_split_of_equal_names(place):
    """Test pictures that are called as the training pictures are still the test pictures."""
    for part, grey in (("train", 10), ("test", 100)):
        flat(place / part / "a", grey, 5)
        flat(place / part / "b", grey + 50, 5)
    data = load()
    assert sorted({int(x) for x in data.train.x[:, 0, 0, 0]}) == [*range(10, 15), *range(60, 65)]
    assert sorted({int(x) for x in data.test.x[:, 0, 0, 0]}) == [*range(100, 105), *range(150, 155)]


def test_the_second_start_decodes_nothing(animals, monkeypatch):
    """Neither headers nor pixels are looked at again, unless a byte changed."""
    first = load()
    for name in ("read_header", "decode"):
        monkeypatch.setattr(images, name, lambda *_: pytest.fail("looked again"))
    assert torch.equal(load().train.x, first.train.x)
    monkeypatch.undo()


def test_a_file_that_changes_meanwhile(animals, monkeypatch):
    """What is decoded are the bytes that were hashed, else the run ends."""
    real = images.read_headers

    def change(what, pictures):
        seen = real(what, pictures)
        fake_data.write_images(animals / "cat", 5, seed=55)
        return seen

    monkeypatch.setattr(images, "read_headers", change)
    monkeypatch.setattr("msgm_builtin.datasets.image_folder.read_headers", change)
    with pytest.raises(StorageError, match=r"cat/000.png changed while the folder was read"):
        load()


def test_copies_are_mentioned(animals):
    """Bytes that are there twice, to train on and held out, are counted in a line."""
    shutil.copy(animals / "cat" / "000.png", animals / "cat" / "004.png")
    (remark,) = load().remarks
    assert remark == (
        "the same image more than once: 1 of them, such as cat/000.png and cat/004.png; "
        "1 both to train on and held out"
    )


# Skipped entries -------------------------------------------------------------------------


def test_leftovers_are_no_classes(animals):
    """Hidden folders and what systems leave are no classes; one line counts the skipped entries."""
    plain = load()
    for name in (
        ".ipynb_checkpoints",
        "__MACOSX",
        "@eaDir",
        "lost+found",
        "System Volume Information",
    ):
        fake_data.write_images(animals / name, 2, seed=7)
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._000.png", "notes.TXT", "more.txt"):
        (animals / "cat" / name).write_bytes(b"x")
    for name in ("IMG_1.HEIC", "raw"):
        (animals / "dog" / name).write_bytes(b"x")
    (animals / "empty").mkdir()
    shutil.copy(animals / "cat" / "000.png", animals / "loose.png")
    data = load()
    assert data.classes == ("cat", "dog")
    assert torch.equal(data.train.x, plain.train.x)
    assert plain.remarks == ()
    assert data.remarks == (
        "skipped: 6 of the operating system, 3 hidden, 2 .txt, 1 .heic, "
        "1 beside the class folders, 1 without an ending, 1 without images (empty)",
    )


@pytest.mark.parametrize("suffix", [".jfif", ".JPG", ".jpe", ".JPEG"])
def test_jpeg_by_any_name(place, suffix):
    """All of JPEG's endings are read."""
    for kind in ("a", "b"):
        folder = fake_data.write_images(place / kind, 5, suffix=".jpg")
        for path in folder.iterdir():
            path.rename(path.with_suffix(suffix))
    assert len(load().train) == 8


def test_links_are_followed(animals, tmp_path):
    """Links to folders and to images are as good as what they lead to."""
    fake_data.write_images(tmp_path / "more", 10, seed=300)
    (animals / "cat" / "more").symlink_to(tmp_path / "more")
    (animals / "fox").symlink_to(fake_data.write_images(tmp_path / "foxes", 5, seed=400))
    (animals / "dog" / "one.png").symlink_to(tmp_path / "more" / "000.png")
    data = load()
    assert data.classes == ("cat", "dog", "fox")
    assert data.counts() == {"cat": (12, 3), "dog": (5, 1), "fox": (4, 1)}


def test_circles_of_links(animals):
    """A link back, or to a folder that is read already, is an error that names both."""
    (animals / "cat" / "again").symlink_to(animals)
    with pytest.raises(
        StorageError, match=r"cat/again is damaged: this link leads to .*data, which"
    ):
        load()
    (animals / "cat" / "again").unlink()
    (animals / "cow").symlink_to(animals / "cat")
    with pytest.raises(StorageError, match="which is read already"):
        load()


def test_a_tree_of_links_ends(place):
    """Thirty folders that each lead twice to the next are not walked a billion times."""
    for i in range(30):
        (place / "all" / str(i)).mkdir(parents=True)
        for name in ("a", "b"):
            (place / "all" / str(i) / name).symlink_to(place / "all" / str(i + 1))
    with pytest.raises(StorageError, match="is read already"):
        walk.walk(place / "all" / "0")


@pytest.mark.parametrize("kind", ["nothing", "itself", "zero", "pipe", "socket", "link to a pipe"])
def test_images_that_are_no_files(animals, kind, monkeypatch):
    """A pipe, a device or a link to nothing in the place of an image is named; nothing hangs."""
    path = animals / "cat" / "x.png"
    if kind in ("pipe", "link to a pipe"):
        pipe = path if kind == "pipe" else animals / "pipe"
        os.mkfifo(pipe)
    monkeypatch.chdir(path.parent)
    match kind:
        case "nothing" | "itself" | "zero" | "link to a pipe":
            targets = {"nothing": "gone", "itself": "x.png", "zero": "/dev/zero"}
            path.symlink_to(targets.get(kind, animals / "pipe"))
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind("x.png")
    with pytest.raises(StorageError, match=r"cat/x.png is damaged: (no regular|this link leads)"):
        load()


def test_a_folder_that_cannot_be_listed(animals, monkeypatch):
    """Permission denied is an error with the folder's name."""
    real = os.scandir

    def refuse(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(walk.os, "scandir", refuse)
    with pytest.raises(StorageError, match=r"dog cannot be listed: Permission denied"):
        load()


def test_an_image_that_must_not_be_read(animals, monkeypatch):
    """It is whole, so the message speaks of permission and not of damage."""
    real = os.open

    def refuse(path, flags):
        if str(path).endswith(".png"):
            raise PermissionError(13, "Permission denied")
        return real(path, flags)

    monkeypatch.setattr(files.os, "open", refuse)
    with pytest.raises(StorageError, match=r"png cannot be read: Permission denied\ngive yourself"):
        load()


def test_names_that_are_no_text(animals):
    """A name that is not UTF-8 is named and not dropped."""
    os.mkdir(os.fsencode(animals) + b"/\xff\xfe")
    with pytest.raises(StorageError, match="no UTF-8 text") as caught:
        load()
    assert "\\udcff" in str(caught.value)


def test_a_huge_file(animals, monkeypatch):
    """A file beyond the cap is named before it is read."""
    monkeypatch.setattr(images, "MAX_BYTES", 10_000)
    with (animals / "cat" / "x.png").open("wb") as file:
        file.truncate(10_001)
    with pytest.raises(StorageError, match=r"x.png is damaged: 10,001 bytes; at most 10,000"):
        load()


def test_several_bad_images_are_counted(animals):
    """The first is explained, the others are named."""
    for i in range(3):
        Image.new("CMYK", (16, 16)).save(animals / "cat" / f"{i:03d}.jpg")
    with pytest.raises(StorageError, match=r"000.jpg is damaged: .*CMYK.*and 2 more: cat/001.jpg"):
        load()


ENTRY = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1
).filter(lambda name: len(name.encode()) < 60 and name not in (".", ".."))


@given(st.dictionaries(ENTRY, st.sampled_from([".png", ".txt", ""]), max_size=6))
@settings(max_examples=60)
def test_everything_is_listed_or_counted(tmp_path_factory, entries):
    """Whatever names a folder holds: images and skipped entries add up to all entries."""
    folder = tmp_path_factory.mktemp("walk")
    for name, suffix in entries.items():
        (folder / f"{name}{suffix}").write_bytes(b"")
    names = {path.name for path in folder.iterdir()}
    result = walk.walk(folder)
    assert len(result.images) + sum(result.skipped.values()) == len(names)
    assert set(result.images) <= names
    assert "\n" not in describe(result.skipped)


# Parts ------------------------------------------------------------------------------------


def parts(place, *names, classes=("a", "b")):
    """Folders that each have the class folders."""
    for i, name in enumerate(names):
        for j, kind in enumerate(classes):
            fake_data.write_images(place / name / kind, 3 + i, seed=1000 * i + 100 * j)


@pytest.mark.parametrize(
    ("train", "held"),
    [
        ("train", "test"),
        ("Train", "Test"),
        ("TRAINING", "Testing"),
        ("train", "val"),
        ("train", "valid"),
        ("Training", "Validation"),
        ("training_set", "test_set"),
        ("train-images", "testing data"),
        ("TrainSet", "ValSplit"),
    ],
)
def test_parts_by_their_usual_names(place, train, held):
    """Held-out parts of any usual name and case are parts, and no classes."""
    parts(place, train, held)
    data = load()
    assert data.classes == ("a", "b")
    assert (len(data.train), len(data.test)) == (6, 8)
    assert data.protocol.startswith("image_folder/own@")


def test_three_parts_need_a_word(place):
    """With val and test an option says which is held out, and the other is counted."""
    parts(place, "train", "val", "test")
    with pytest.raises(UsageError, match=r"test, val: which is the held-out part\?"):
        load()
    assert (len(load(test_part="test").test), len(load(test_part="val").test)) == (10, 8)
    assert load(test_part="val").remarks == ("skipped: 10 of test",)


@pytest.mark.parametrize(
    "names",
    [("train",), ("test",), ("train", "Train", "test"), ("train", "extra"), ("val", "test")],
)
def test_ambiguous_parts(place, names):
    """A part without its counterpart, two of a kind and classes beside parts are refused."""
    parts(place, *names)
    with pytest.raises(UsageError, match="classes, or parts of the data"):
        load()


@pytest.mark.parametrize("name", ["trains", "tester", "validators", "trainings", "test_7", "dev1"])
def test_names_that_begin_like_a_part_are_classes(place, name):
    """Only the whole name of a folder makes it a part."""
    parts(place, name, "other")
    assert load().classes == tuple(sorted((name, "other")))


def test_an_empty_part_is_named(place):
    """What is amiss with train beside an empty test is that test holds nothing."""
    parts(place, "train")
    (place / "test").mkdir()
    with pytest.raises(UsageError, match=r"holds train, test \(without images\): are these"):
        load()


def test_parts_beside_classes(animals):
    """Class folders beside a held-out part are refused, too."""
    fake_data.write_images(animals / "test", 5, seed=9)
    with pytest.raises(UsageError, match="cat, dog, test: are these classes, or parts"):
        load()


def test_trains_are_a_class(animals):
    """A folder of pictures of trains beside those of other things is a class."""
    fake_data.write_images(animals / "train", 5, seed=9)
    assert load().classes == ("cat", "dog", "train")


def test_flat_parts(place):
    """Images directly in train and test have no class, and are no classes named so."""
    for part in ("train", "test"):
        fake_data.write_images(place / part, 5)
    with pytest.raises(UsageError, match="no folders with images"):
        load()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"test_part": "val"}, "-d test_part=val, and .* has no parts"),
        ({"labels": "classes"}, "-d labels= without a table"),
        ({"table": ""}, "option 'table' of image_folder = ''"),
        ({"folder": ""}, "option 'folder' of image_folder = ''"),
        ({"data_dir": ""}, "option 'data_dir' of image_folder = ''"),
        ({"folder": "a\0b"}, "no folder of images"),
    ],
)
def test_options_without_an_effect(animals, option, message):
    """What cannot be followed is refused, not ignored."""
    with pytest.raises(UsageError, match=message):
        load(**option)


def test_white_paper(place):
    """Transparent drawings stay drawings on white paper in the data themselves."""
    for i, kind in enumerate(("a", "b")):
        (place / kind).mkdir()
        for j in range(5):
            rgba = np.zeros((8, 8, 4), np.uint8)
            rgba[i, j] = (0, 0, 0, 255)
            Image.fromarray(rgba, "RGBA").save(place / kind / f"{j}.png")
    x = torch.cat([load().train.x, load().test.x])
    assert set(x.unique().tolist()) == {0, 255}
    assert ((x == 0).sum(dim=(1, 2, 3)) == 3).all()
