"""A user's own images: class folders, and tables of classes or attributes."""

from __future__ import annotations

import csv

import fake_data
import numpy as np
import pytest
import torch
from lazy import LazyModule
from PIL import Image

from msgm_bench import OptionError, RunSpec, StorageError, UsageError
from msgm_bench.experiment.plan import resolve
from msgm_bench.testing import check_dataset
from msgm_builtin.datasets.image_folder import ImageFolder

torchvision = LazyModule("torchvision")


def load(**options):
    """The data."""
    return ImageFolder.create(options).load()


def table(folder, header, rows, name="labels.csv"):
    """A CSV file."""
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return name


@pytest.fixture
def animals(place):
    """Ten cats and fifteen dogs of 16x16 px."""
    fake_data.write_images(place / "cat", 10)
    fake_data.write_images(place / "dog", 15, seed=100)
    return place


@pytest.fixture
def loose(place):
    """Ten images without folders."""
    return fake_data.write_images(place, 10)


def test_conformance(animals):
    """The folder passes the checks of ``msgm_bench.testing``."""
    check_dataset(ImageFolder)
    assert load().classes == ("cat", "dog")


def test_as_torchvision_reads_it(animals):
    """The same pixels and classes; of each class, every fifth is held out."""
    data, theirs = load(), torchvision.datasets.ImageFolder(str(animals))
    x = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image, _ in theirs])
    y = torch.tensor(theirs.targets)
    held = torch.tensor([4, 9, 14, 19, 24])
    retained = torch.tensor([i for i in range(25) if i not in held])
    assert torch.equal(data.test.x, x[held])
    assert torch.equal(data.test.y, y[held])
    assert torch.equal(data.train.x, x[retained])
    assert torch.equal(data.train.y, y[retained])
    assert data.protocol == "image_folder/every-5th@2/upright-on-white@1"


def test_a_split_of_ones_own(place):
    """Folders ``train`` and ``test`` are the split."""
    for part, count in (("train", 4), ("test", 2)):
        for i, kind in enumerate(("a", "b")):
            fake_data.write_images(place / part / kind, count, seed=10 * i)
    data = load(flip=True)
    assert (len(data.train), len(data.test)) == (8, 4)
    assert (data.protocol, data.flip) == ("image_folder/own+flip@2/upright-on-white@1", True)


def test_where_the_folder_is(animals, tmp_path, monkeypatch):
    """Named by option, absolute or within a data folder; without a name there is an error."""
    monkeypatch.setenv("MSGM_BENCH_DATA", str(tmp_path))
    assert len(load(folder="data").train) == 20
    assert len(load(folder=str(animals)).train) == 20
    monkeypatch.delenv("MSGM_BENCH_DATA")
    assert len(load(data_dir=str(animals)).train) == 20
    with pytest.raises(UsageError, match="no folder of images: none was named"):
        load()
    with pytest.raises(UsageError, match=r"no folder of images: .*/nowhere"):
        load(folder="nowhere")


def test_table_of_attributes(loose):
    """Columns of 0 and 1, -1 and 1 or words become attributes; a column ``split`` is the split."""
    rows = [
        (f"{i:03d}.png", "test" if i % 2 else "train", i % 3 == 0, "yes" if i > 4 else "no")
        for i in range(10)
    ]
    rows = [(file, split, int(first) * 2 - 1, second) for file, split, first, second in rows]
    name = table(loose, ("file", "split", "Hat", "Smile"), rows)
    data = load(table=name)
    assert data.classes == ("Hat", "Smile")
    expected = [[i % 3 == 0, i > 4] for i in range(1, 10, 2)]
    assert data.test.y.tolist() == expected
    assert data.targets(["hat"]) == (0,)
    retain, forget = data.split(data.test, (0,))
    assert (len(retain), len(forget)) == (3, 2)


def test_table_of_classes(loose):
    """One column of words is the class; without a split every fifth of a class is held out."""
    rows = [(f"{i:03d}.png", "odd" if i % 2 else "even") for i in reversed(range(10))]
    data = load(table=table(loose, ("file", "kind"), rows))
    assert data.classes == ("even", "odd")
    assert data.test.y.tolist() == [1, 0]
    with Image.open(loose / "001.png") as image:
        assert np.array_equal(data.test.x[0].permute(1, 2, 0).numpy(), np.asarray(image))


def test_sizes_are_made_alike(animals):
    """``size`` crops to the centred square and resizes; what has the size stays as it is."""
    plain = load()
    Image.fromarray(fake_data.pixels(20, 40, 3)).save(animals / "cat" / "000.png")
    data = load(size=16)
    assert data.shape == (3, 16, 16)
    assert torch.equal(data.train.x[1:], plain.train.x[1:])
    with Image.open(animals / "cat" / "000.png") as image:
        expected = image.crop((10, 0, 30, 20)).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(data.train.x[0].permute(1, 2, 0).numpy(), np.asarray(expected))


@pytest.mark.parametrize(("grey", "channels"), [(True, 1), (False, 3)])
def test_grey_next_to_colour(animals, grey, channels):
    """``grey`` makes all grey or all colour."""
    fake_data.write_images(animals / "fox", 5, grey=True)
    assert load(grey=grey).shape == (channels, 16, 16)


def test_grey_stays_grey(place):
    """Images that are all grey have one channel."""
    for kind in ("a", "b"):
        fake_data.write_images(place / kind, 5, grey=True)
    assert load().shape == (1, 16, 16)


# Bad input --------------------------------------------------------------------------------


def test_mixed_grey_is_an_error(animals):
    """The error names files of both kinds and the option."""
    fake_data.write_images(animals / "fox", 5, grey=True)
    with pytest.raises(UsageError) as caught:
        load()
    message = (
        "grey images (fox/000.png, fox/001.png, fox/002.png and 2 more) next to colour (cat/000"
    )
    assert message in str(caught.value)
    assert "-d grey=true" in str(caught.value)


def test_mixed_sizes_are_an_error(animals):
    """The error names files of both sizes and the option."""
    Image.new("RGB", (20, 30)).save(animals / "cat" / "tall.png")
    with pytest.raises(UsageError) as caught:
        load()
    assert "images of 2 sizes: 16x16 (cat/000.png" in str(caught.value)
    assert "20x30 (cat/tall.png)" in str(caught.value)
    assert "-d size=64" in str(caught.value)


def test_one_class_only(place):
    """A folder with one class, and one with none, is refused."""
    with pytest.raises(UsageError, match="no folders with images"):
        load()
    fake_data.write_images(place / "cat", 10)
    with pytest.raises(UsageError, match=r"one class only \(cat\)"):
        load()


def test_all_or_nobody_is_an_error(loose):
    """An attribute that nobody or everybody has cannot be forgotten."""
    rows = [(f"{i:03d}.png", 0, 1, i % 2) for i in range(10)]
    data = load(table=table(loose, ("file", "none", "all", "some"), rows), test_stride=2)
    for name in ("none", "all", "some"):
        with pytest.raises(OptionError, match="leaves an empty split"):
            data.targets([name])


def test_a_class_without_test_items(place):
    """Classes must be in both parts of a split of one's own."""
    fake_data.write_images(place / "train" / "a", 2)
    fake_data.write_images(place / "train" / "b", 2)
    fake_data.write_images(place / "test" / "a", 2)
    with pytest.raises(UsageError, match="test has no images of b"):
        load()


def test_too_few_to_hold_out(place):
    """Three images a class leave nothing to hold out, and the error says what would."""
    for kind in ("a", "b"):
        fake_data.write_images(place / kind, 3)
    with pytest.raises(UsageError, match="test_stride=2"):
        load()
    assert len(load(test_stride=2).test) == 2


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_damaged_image(animals, content):
    """A file that is no image is named."""
    (animals / "dog" / "003.png").write_bytes(content)
    with pytest.raises(StorageError, match=r"dog/003.png is damaged"):
        load()


def test_image_cut_short(animals):
    """A file whose header is whole and whose pixels are not is named."""
    path = animals / "dog" / "003.png"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(StorageError, match=r"dog/003.png is damaged"):
        load()


def test_deep_pixels(animals):
    """Sixteen bits a pixel are refused, not cut."""
    Image.fromarray(np.zeros((16, 16), np.uint16)).save(animals / "dog" / "deep.png")
    with pytest.raises(StorageError, match="8 bits a channel"):
        load(grey=True)


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (("f", "a"), [("nobody.png", "x"), ("no.png", "y")], "not in .*: 2: nobody.png, no.png"),
        (("f", "a"), [("000.png", "x"), ("001.png", "y")], "says nothing: 8: 002.png, 003.png"),
        (("f", "a"), [("000.png", "x"), ("000.png", "y")], "names images twice: 1: 000.png"),
        (("f", "a"), [("000.png",)], "rows without 2 cells: 1: 000.png"),
        (("f", "a"), [], "a header, and below it a row"),
        (("f", "a"), [(f"{i:03d}.png", "x") for i in range(10)], r"one class only \(x\)"),
        (("f", "a", "b"), [(f"{i:03d}.png", i, 1) for i in range(10)], "other than 0 and 1"),
        (("f",), [(f"{i:03d}.png",) for i in range(10)], "0 columns of labels"),
        (("f", "split", "a"), [(f"{i:03d}.png", "x", 1) for i in range(10)], "split 'x'"),
        (("f", "split", "a"), [(f"{i:03d}.png", "test", 1) for i in range(10)], "in one split"),
    ],
)
def test_bad_tables(loose, header, rows, message):
    """A table that does not fit the images, or that holds no labels, is refused with the rows."""
    name = table(loose, header, rows)
    with pytest.raises((StorageError, UsageError), match=message):
        load(table=name)


def test_no_such_table(loose):
    """A table that is not there is named; one that is no text as well."""
    with pytest.raises(StorageError, match=r"no table .*/other.csv"):
        load(table="other.csv")
    (loose / "other.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StorageError, match=r"other.csv is damaged"):
        load(table="other.csv")


@pytest.mark.parametrize(
    ("preset", "attributes", "name"),
    [("quick", True, "attributes"), ("paper", True, "attributes"), ("quick", False, "classifier")],
)
def test_the_labels_choose_the_judge(loose, preset, attributes, name):
    """A table of attributes has the judge for attributes, one of classes that for classes."""
    values = [(i % 3 == 0, i % 2) for i in range(10)]
    if attributes:
        head, rows = ("file", "Hat", "Smile"), [(int(hat), smile) for hat, smile in values]
    else:
        head, rows = ("file", "kind"), [("cat" if hat else "dog",) for hat, _ in values]
    named = [(f"{i:03d}.png", *row) for i, row in enumerate(rows)]
    request = {
        "dataset": "image_folder",
        "dataset_params": {"table": table(loose, head, named), "test_stride": 2, "size": 32},
        "forget": "hat" if attributes else "cat",
        "backbone": "vpsde",
        "method": "unseen",
        "preset": preset,
    }
    assert resolve(RunSpec.model_validate(request)).evaluation.judge.name == name
