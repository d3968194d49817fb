"""CelebA in its real layout, from images, attribute table and partition alone."""

from __future__ import annotations

import dataclasses
import os
import shutil

import fake_data
import numpy as np
import pytest
import torch
from lazy import LazyModule
from PIL import Image

from msgm_bench import OptionError, RunSpec, StorageError
from msgm_bench.cache.fingerprint import data_fingerprint
from msgm_bench.experiment.plan import resolve
from msgm_bench.testing import check_dataset
from msgm_builtin.datasets import images
from msgm_builtin.datasets.celeba import CelebA

torchvision = LazyModule("torchvision")
transforms = LazyModule("torchvision.transforms.v2.functional")


@pytest.fixture
def celeba(place):
    """The folder of fifty faces."""
    return fake_data.write_celeba(place)


def test_conformance(celeba):
    """CelebA passes the checks of ``msgm_bench.testing``."""
    check_dataset(CelebA, excerpt=True)
    data = CelebA.create().load()
    assert data.train.y.shape == (30, 40)
    assert data.train.y.dtype == torch.bool
    assert len(data.classes) == 40
    assert (data.protocol, data.flip) == ("celeba/test@1", False)


def test_labels_and_partition(celeba):
    """Attributes and parts are those of the tables."""
    _, truth, part = fake_data.celeba_truth()
    usual, valid = (CelebA.create({"split": split}).load() for split in ("test", "valid"))
    for actual, number in ((usual.train, 0), (usual.test, 2), (valid.test, 1)):
        assert np.array_equal(actual.y.numpy(), truth[part == number])
    assert valid.protocol == "celeba/valid@1"


def test_forget_by_attribute(celeba):
    """``bangs`` in any case is attribute 5, and its faces are the ones to forget."""
    data = CelebA.create().load()
    assert data.targets(["bangs"]) == data.targets(["BANGS"]) == data.targets(["5"]) == (5,)
    retain, forget = data.split(data.test, data.targets(["bangs", "Young"]))
    assert (forget.y[:, 5] | forget.y[:, 39]).all()
    assert not retain.y[:, [5, 39]].any()
    assert len(retain) + len(forget) == len(data.test)
    with pytest.raises(OptionError, match="did you mean 'bangs'"):
        data.targets(["bang"])


def test_crop_and_resize(celeba):
    """The centred 140 px square, reduced with antialiasing as torchvision does it."""
    names, _, part = fake_data.celeba_truth()
    data = CelebA.create().load()
    for split, number in ((data.train, 0), (data.test, 2)):
        chosen = [name for name, element in zip(names, part, strict=True) if element == number]
        for x, name in zip(split.x, chosen, strict=True):
            with Image.open(celeba / "img_align_celeba" / name) as image:
                cut = transforms.center_crop(image, [140, 140])
            exact = transforms.pil_to_tensor(transforms.resize(cut, [64, 64], antialias=True))
            assert torch.equal(x, exact)
            loose = transforms.resize(transforms.pil_to_tensor(cut).float(), [64, 64])
            assert (x - loose).abs().max() <= 1.0


def test_as_torchvision_reads_it(celeba, monkeypatch):
    """torchvision, given its five tables and no checksums, has the same faces and attributes."""
    names, _, part = fake_data.celeba_truth()
    for table, width, header in (
        ("identity_CelebA.txt", 1, ()),
        ("list_bbox_celeba.txt", 4, ("50", "a b c d")),
        ("list_landmarks_align_celeba.txt", 10, ("50", "a b c d e f g h i j")),
    ):
        rows = [f"{name} {' '.join(['1'] * width)}" for name in names]
        (celeba / table).write_text("\n".join([*header, *rows, ""]))
    theirs = torchvision.datasets.CelebA
    monkeypatch.setattr(theirs, "_check_integrity", lambda self: True)
    data = CelebA.create().load()
    for split, ours in (("train", data.train), ("test", data.test)):
        actual = theirs(str(celeba.parent), split=split)
        assert torch.equal(actual.attr.bool(), ours.y)
        assert actual.attr_names[:40] == list(data.classes)
        assert len(actual) == len(ours) == int((part == {"train": 0, "test": 2}[split]).sum())


def test_other_layouts(celeba, tmp_path):
    """The folders of the official page and Kaggle's CSV tables hold the same data."""
    plain = CelebA.create().load()
    official = tmp_path / "official" / "CelebA"
    for name, folder in (
        ("img_align_celeba", "Img"),
        ("list_attr_celeba.txt", "Anno"),
        ("list_eval_partition.txt", "Eval"),
    ):
        (official / folder).mkdir(parents=True)
        copy = shutil.copytree if name.startswith("img") else shutil.copy
        copy(celeba / name, official / folder / name)
    kaggle = tmp_path / "kaggle"
    inner = kaggle / "img_align_celeba" / "img_align_celeba"
    shutil.copytree(celeba / "img_align_celeba", inner)
    for name, head in (("list_attr_celeba", ["image_id"]), ("list_eval_partition", [])):
        rows = [line.split() for line in (celeba / f"{name}.txt").read_text().splitlines()]
        rows = [head + rows[1], *rows[2:]] if head else [["image_id", "partition"], *rows]
        lines = [",".join(row) for row in rows if row]
        (kaggle / f"{name}.csv").write_text("\n".join(lines))
    for folder in (official.parent, kaggle):
        other = CelebA.create({"data_dir": str(folder)}).load()
        assert torch.equal(other.train.x, plain.train.x)
        assert torch.equal(other.test.y, plain.test.y)
        assert other.classes == plain.classes


def test_decoded_once(celeba, monkeypatch):
    """The second time nothing is decoded; a face that changed is decoded anew."""
    first = CelebA.create().load()
    decode = images.Recipe.apply
    monkeypatch.setattr(images.Recipe, "apply", lambda *_: pytest.fail("decoded again"))
    assert torch.equal(CelebA.create().load().train.x, first.train.x)
    monkeypatch.setattr(images.Recipe, "apply", decode)
    path = celeba / "img_align_celeba" / "000001.jpg"
    Image.new("RGB", (178, 218), (255, 255, 255)).save(path)
    os.utime(path, ns=(1, 1))
    changed = CelebA.create().load()
    assert (changed.train.x[0] == 255).all()
    assert torch.equal(changed.train.x[1:], first.train.x[1:])


def test_progress_in_the_log(celeba, monkeypatch, caplog):
    """Decoding that takes long says where it is."""
    monkeypatch.setattr(images, "CHUNK", 10)
    monkeypatch.setattr(images, "LOG_INTERVAL", 0.0)
    with caplog.at_level("INFO", "msgm_bench.data"):
        CelebA.create().load()
    assert "celeba-train: decoding, once, 30 images" in caplog.text
    assert "celeba-train: decoding, once, 20 of 30 images" in caplog.text


# Bad input --------------------------------------------------------------------------------


def test_missing_images(celeba):
    """Faces that the tables name and the folder lacks are counted and named."""
    for number in (1, 2, 50):
        (celeba / "img_align_celeba" / f"{number:06d}.jpg").unlink()
    with pytest.raises(StorageError, match=r"images missing in .*: 3: 000001.jpg, 000002.jpg"):
        CelebA.create().load()


def decoded_files():
    """The cache files of decoded images, without those of hashes."""
    files = images.cache_folder().glob("*.npy")
    return [path for path in files if "-hashes-" not in path.name]


@pytest.mark.parametrize("content", [b"", b"no image", None], ids=["empty", "text", "cut short"])
def test_damaged_image(celeba, content):
    """A face that is no whole image is named, and no cache of the rest is kept."""
    path = celeba / "img_align_celeba" / "000003.jpg"
    path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    with pytest.raises(StorageError, match=r"000003.jpg is damaged"):
        CelebA.create().load()
    assert not decoded_files()


def test_small_image(celeba):
    """A face that the crop does not fit into is named with its size."""
    path = celeba / "img_align_celeba" / "000003.jpg"
    Image.new("RGB", (100, 120)).save(path)
    with pytest.raises(StorageError, match=r"000003.jpg is damaged: 100x120 pixels, smaller"):
        CelebA.create().load()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda lines: lines[:-3], "of the 50 images that it announces"),
        (lambda lines: [*lines[:5], lines[5][:-4], *lines[6:]], "line of 000004.jpg: not 40"),
        (lambda lines: [*lines[:5], lines[5].replace("-1", "7"), *lines[6:]], "not 40 values"),
        (lambda lines: [], "no table of attributes"),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], "two lines of 000001.jpg"),
        (lambda lines: [lines[0], lines[1].replace("Bald", "Bangs"), *lines[2:]], "of one name"),
        (lambda lines: [*lines[:5], lines[5].replace("-1", " 0"), *lines[6:]], "-1 beside 0"),
    ],
    ids=["rows", "row", "value", "empty", "twice", "names", "three values"],
)
def test_damaged_table(celeba, edit, message):
    """An attribute table that is cut short or holds something else is refused with the line."""
    path = celeba / "list_attr_celeba.txt"
    path.write_text("\n".join(edit(path.read_text().splitlines())))
    with pytest.raises(StorageError, match=message):
        CelebA.create().load()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda lines: lines[:-2], "differ: 2: 000049.jpg, 000050.jpg"),
        (lambda lines: [*lines, "000099.jpg 0"], "differ: 1: 000099.jpg"),
        (lambda lines: ["000001.jpg 5", *lines[1:]], "without a part 0, 1 or 2: 1: 000001.jpg"),
        (lambda lines: [line.replace(" 2", " 1") for line in lines], "no image of part 2"),
        (lambda lines: [*lines, lines[0]], "two lines of images: 1: 000001.jpg"),
    ],
    ids=["missing", "unknown", "part", "no test", "twice"],
)
def test_damaged_partition(celeba, edit, message):
    """A partition that does not fit the attribute table is refused with the images."""
    path = celeba / "list_eval_partition.txt"
    path.write_text("\n".join(edit(path.read_text().splitlines())))
    with pytest.raises(StorageError, match=message):
        CelebA.create().load()


def test_an_attribute_that_nobody_has(celeba):
    """Forgetting it is refused, with the count that says why."""
    path = celeba / "list_attr_celeba.txt"
    lines = path.read_text().splitlines()
    at = 1 + fake_data.ATTRIBUTES.index("Bald")
    for i in range(2, len(lines)):
        words = lines[i].split()
        lines[i] = " ".join([*words[:at], "-1", *words[at + 1 :]])
    path.write_text("\n".join(lines))
    with pytest.raises(OptionError, match="0 of 30 training items carry it"):
        CelebA.create().load().targets(["Bald"])


def test_no_room_for_the_cache(celeba, monkeypatch):
    """Decoding does not start where its result would not fit."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(StorageError, match=r"no room in .*decoded"):
        CelebA.create().load()


def test_a_damaged_cache(celeba):
    """A cache file that is no array is named, with what to do."""
    CelebA.create().load()
    path = next(path for path in decoded_files() if path.name.startswith("celeba-train-"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(StorageError, match="delete it"):
        CelebA.create().load()


# Regions ----------------------------------------------------------------------------------


def landmarks(size):
    """Row and column of eyes, nose and mouth: CelebA's aligned ones, cropped and reduced."""
    aligned = {"eye": (111, 70), "other eye": (111, 107), "nose": (137, 89), "mouth": (153, 89)}
    top, left, scale = (218 - 140) / 2, (178 - 140) / 2, size / 140
    return {k: ((y - top) * scale, (x - left) * scale) for k, (y, x) in aligned.items()}


@pytest.mark.parametrize("size", [64, 32, 100])
def test_regions_hold_what_they_are_named_after(celeba, size):
    """At every size: glasses both eyes, the mouth's the mouth, the nose's the nose, bangs none."""
    data = CelebA.create({"size": size}).load()
    inside = {
        name: {k for k, (y, x) in landmarks(size).items() if t <= y < t + h and w <= x < w + v}
        for name, (t, w, h, v) in data.regions.items()
    }
    assert inside["Eyeglasses"] == inside["Narrow_Eyes"] == {"eye", "other eye"}
    assert inside["Smiling"] == inside["Mustache"] == {"mouth"}
    assert inside["Big_Nose"] == {"nose"}
    assert inside["Bangs"] == inside["Wearing_Hat"] == inside["Bushy_Eyebrows"] == set()
    assert set(data.regions) < set(data.classes)
    for top, left, height, width in data.regions.values():
        assert 0 <= top < top + height <= size
        assert 0 <= left < left + width <= size
        assert height * width < size**2 / 2
    top, left, height, width = data.regions["Bangs"]
    assert (left, width) == (0, size)
    assert height == pytest.approx(size / 4, abs=1)
    assert top + height < landmarks(size)["eye"][0]


def test_regions_are_part_of_the_data(celeba):
    """Another region is another fingerprint; attributes that show anywhere have none."""
    data = CelebA.create().load()
    other = dataclasses.replace(data, regions=data.regions | {"Bangs": (0, 0, 16, 64)})
    assert data_fingerprint(data) != data_fingerprint(other)
    assert not {"Male", "Young", "Wavy_Hair", "Blurry"} & set(data.regions)


def test_an_unknown_attribute_ends_before_any_download(monkeypatch):
    """The forty names are known without the files, which are not even looked for."""
    monkeypatch.setattr(CelebA, "load", lambda self: pytest.fail("looked for the files"))
    spec = RunSpec(dataset="celeba", forget="bangz", backbone="vpsde", method="obt")
    with pytest.raises(OptionError, match=r"no class 'bangz'.*did you mean 'bangs'"):
        resolve(spec)
