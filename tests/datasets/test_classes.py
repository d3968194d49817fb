"""MNIST, Fashion-MNIST, CIFAR-10 and STL-10 in their real formats, against torchvision."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import os
import pickle
import random
import struct
import tracemalloc
from pathlib import Path

import fake_data
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lazy import LazyModule
from torch.nn import functional as F

from msgm_bench import OptionError, StorageError
from msgm_bench.testing import check_dataset
from msgm_builtin.datasets.cifar10 import CIFAR10, read_batch
from msgm_builtin.datasets.mnist import MNIST, FashionMNIST
from msgm_builtin.datasets.stl10 import STL10

torchvision = LazyModule("torchvision")
transforms = LazyModule("torchvision.transforms.v2.functional")

REAL_FASHION = Path("/usr/share/datasets/fashion-mnist")
WRITERS = {
    MNIST: lambda place: fake_data.write_mnist(place / "mnist"),
    FashionMNIST: lambda place: fake_data.write_mnist(place / "fashion_mnist"),
    CIFAR10: lambda place: fake_data.write_cifar10(place / "cifar10"),
    STL10: lambda place: fake_data.write_stl10(place / "stl10"),
}


def without_checksums(monkeypatch, cls):
    """torchvision's reader on files that nobody published."""
    monkeypatch.setattr(cls, "_check_integrity", lambda self: True, raising=False)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    return cls


@pytest.mark.parametrize("cls", WRITERS, ids=lambda cls: cls.name)
def test_conformance(cls, place):
    """Every dataset passes the checks of ``msgm_bench.testing``."""
    WRITERS[cls](place)
    check_dataset(cls, excerpt=True)
    assert cls.create().load().levels == 256


@pytest.mark.parametrize("cls", WRITERS, ids=lambda cls: cls.name)
def test_classes_go_by_name_and_index(cls, place):
    """What is to be forgotten is a class's name in any case, or its index."""
    WRITERS[cls](place)
    data = cls.create().load()
    assert data.targets([data.classes[3].upper()]) == data.targets(["3"]) == (3,)
    with pytest.raises(OptionError, match="no class 'nobody'"):
        data.targets(["nobody"])


def test_mnist_as_torchvision_reads_it(place):
    """The same bytes and labels, in the same order."""
    fake_data.write_mnist(place / "MNIST" / "raw", packed=False)
    data = MNIST.create().load()
    for train, part in ((True, data.train), (False, data.test)):
        theirs = torchvision.datasets.MNIST(str(place), train=train)
        assert torch.equal(part.x[:, 0], theirs.data)
        assert torch.equal(part.y, theirs.targets)


def test_mnist_padded(place):
    """``pad`` puts the same pixels into the middle of black 32x32."""
    fake_data.write_mnist(place / "mnist")
    plain, padded = (MNIST.create({"pad": pad}).load() for pad in (False, True))
    assert padded.shape == (1, 32, 32)
    assert torch.equal(padded.train.x, F.pad(plain.train.x, [2, 2, 2, 2]))
    assert (plain.protocol, padded.protocol) == ("mnist/test@1", "mnist/test+pad@1")


@pytest.mark.skipif(not REAL_FASHION.exists(), reason="Debian's dataset-fashion-mnist is not here")
def test_real_fashion_mnist():
    """Debian's copy: 60,000 and 10,000 images, as many of each class, and plausible pixels."""
    data = FashionMNIST.create({"data_dir": str(REAL_FASHION)}).load()
    assert data.train.x.shape == (60_000, 1, 28, 28)
    assert torch.equal(data.train.y.bincount(), torch.full((10,), 6000))
    assert torch.equal(data.test.y.bincount(), torch.full((10,), 1000))
    assert data.classes[int(data.test.y[0])] == "Ankle boot"
    grey = data.train.x.double() / 255  # mean and deviation that everybody normalises with
    assert grey.mean().item() == pytest.approx(0.2860, abs=1e-4)
    assert grey.std().item() == pytest.approx(0.3530, abs=1e-4)


def test_cifar10_as_torchvision_reads_it(place, monkeypatch):
    """Python 2's pickles give torchvision's pixels and labels."""
    fake_data.write_cifar10(place)
    data = CIFAR10.create().load()
    cls = without_checksums(monkeypatch, torchvision.datasets.CIFAR10)
    for train, part in ((True, data.train), (False, data.test)):
        theirs = cls(str(place), train=train)
        assert np.array_equal(part.x.permute(0, 2, 3, 1).numpy(), theirs.data)
        assert part.y.tolist() == theirs.targets
    assert len(data.train) == 100


def test_stl10_as_torchvision_reads_it(place, monkeypatch):
    """At full size, the same pixels (stored by columns) and labels (stored from 1)."""
    fake_data.write_stl10(place)
    data = STL10.create({"size": 96}).load()
    cls = without_checksums(monkeypatch, torchvision.datasets.STL10)
    for split, part in (("train", data.train), ("test", data.test)):
        theirs = cls(str(place), split=split)
        assert np.array_equal(part.x.numpy(), theirs.data)
        assert part.y.tolist() == theirs.labels.tolist()


def test_stl10_reduced_with_antialiasing(place):
    """64 px come within rounding of torchvision's antialiased bilinear in floating point."""
    fake_data.write_stl10(place)
    whole, reduced = (STL10.create({"size": size}).load().test.x for size in (96, 64))
    assert reduced.shape[1:] == (3, 64, 64)
    theirs = transforms.resize(whole.float(), [64, 64], antialias=True)
    assert (reduced.float() - theirs).abs().max() <= 1.0
    assert (
        reduced.float() - transforms.resize(whole.float(), [64, 64], antialias=False)
    ).abs().max() > 20


def test_stl10_splits(place):
    """``paper`` trains on both parts and scores on the training part, and says so."""
    fake_data.write_stl10(place)
    usual, odd = (STL10.create({"split": split}).load() for split in ("test", "paper"))
    assert (len(usual.train), len(usual.test)) == (20, 30)
    assert (len(odd.train), len(odd.test)) == (50, 20)
    assert torch.equal(odd.test.x, usual.train.x)
    assert torch.equal(odd.train.x, torch.cat([usual.train.x, usual.test.x]))
    assert (usual.protocol, odd.protocol) == ("stl10/test@1", "stl10/paper@1")
    plain = STL10.create({"size": 32, "flip": False}).load()
    assert plain.protocol == "stl10/test+32px+noflip@1"
    assert (usual.flip, plain.flip) == (True, False)


# Bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("length", [0.5, 0.0])
def test_mnist_cut_short(place, packed, length):
    """A truncated file is named, packed or not, and so is an empty one."""
    folder = fake_data.write_mnist(place / "mnist", packed=packed)
    path = folder / f"train-images-idx3-ubyte{'.gz' if packed else ''}"
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * length)])
    with pytest.raises(StorageError, match=f"{path.name} is damaged"):
        MNIST.create().load()


def test_mnist_of_another_kind(place):
    """Labels in the place of images, other sizes and other counts are refused."""
    folder = fake_data.write_mnist(place / "mnist", packed=False)
    images, truth = folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte"
    images.write_bytes(fake_data.idx(fake_data.labels(40)))
    with pytest.raises(StorageError, match="damaged"):
        MNIST.create().load()
    images.write_bytes(fake_data.idx(fake_data.pixels(40, 20, 20)))
    with pytest.raises(StorageError, match="20x20 pixels"):
        MNIST.create().load()
    images.write_bytes(fake_data.idx(fake_data.pixels(39, 28, 28)))
    with pytest.raises(StorageError, match=f"39 images, but 40 labels in {truth}"):
        MNIST.create().load()


def test_mnist_with_a_broken_gzip(place):
    """A packed file with wrong bytes inside is named."""
    folder = fake_data.write_mnist(place / "mnist")
    path = folder / "t10k-labels-idx1-ubyte.gz"
    raw = bytearray(gzip.compress(b"something else entirely" * 50))
    raw[20] ^= 0xFF
    path.write_bytes(bytes(raw))
    with pytest.raises(StorageError, match=path.name):
        MNIST.create().load()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        fake_data.python2({"labels": [1]}),
        fake_data.python2({"labels": [1, 2], "data": fake_data.pixels(1, 3072)}),
        fake_data.python2({"labels": [77], "data": fake_data.pixels(1, 3072)}),
        fake_data.python2({"labels": [], "data": fake_data.pixels(0, 3072)}),
        fake_data.python2([1, 2, 3]),
    ],
    ids=["empty", "text", "no data", "counts", "label", "nothing", "list"],
)
def test_cifar10_damaged(place, content):
    """A batch that is not what CIFAR-10 holds is named."""
    path = fake_data.write_cifar10(place / "cifar10") / "data_batch_2"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="data_batch_2 is damaged"):
        CIFAR10.create().load()


def test_cifar10_cut_short(place):
    """A truncated batch is named."""
    path = fake_data.write_cifar10(place / "cifar10") / "test_batch"
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(StorageError, match="test_batch is damaged"):
        CIFAR10.create().load()


class Harm:
    """A pickle that would run a command."""

    def __reduce__(self):
        """Unpickling makes a file."""
        return (Path.touch, (Path("harm-was-done"),))


def test_cifar10_runs_nothing(place, tmp_path, monkeypatch):
    """A pickle that calls anything but what arrays are made of is refused before it is run."""
    monkeypatch.chdir(tmp_path)
    path = fake_data.write_cifar10(place / "cifar10") / "test_batch"
    path.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(StorageError, match="which no array does"):
        CIFAR10.create().load()
    assert not (tmp_path / "harm-was-done").exists()


def test_stl10_damaged(place):
    """Images cut short and labels out of range are named."""
    folder = fake_data.write_stl10(place / "stl10")
    raw = (folder / "train_X.bin").read_bytes()
    (folder / "train_X.bin").write_bytes(raw[:-1])
    with pytest.raises(StorageError, match=r"train_X\.bin is damaged: .* for the 20 labels"):
        STL10.create().load()
    (folder / "train_X.bin").write_bytes(raw)
    (folder / "train_y.bin").write_bytes(b"\0" * 20)
    with pytest.raises(StorageError, match=r"train_y\.bin is damaged: labels other"):
        STL10.create().load()


# Other writers of the same data -----------------------------------------------------------


def batch(count=20, **changes):
    """A batch of CIFAR-10 as a dictionary."""
    return {
        "labels": [int(label) for label in fake_data.labels(count)],
        "data": fake_data.pixels(count, 3072),
        **changes,
    }


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("keys", ["text", "bytes"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_cifar10_pickled_anew(protocol, keys, order, place):
    """A subset that somebody pickled again, by any protocol and with byte keys, is read."""
    path = fake_data.write_cifar10(place / "cifar10") / "data_batch_2"
    plain = CIFAR10.create().load().train
    again = batch(data=np.asarray(fake_data.pixels(20, 3072, seed=1), order=order))
    if keys == "bytes":
        again = {key.encode(): value for key, value in again.items()}
    path.write_bytes(pickle.dumps(again, protocol=protocol))
    data = CIFAR10.create().load().train
    assert torch.equal(data.x, plain.x)
    assert torch.equal(data.y, plain.y)


def test_cifar10_labels_as_an_array(place):
    """Labels may be an array of integers."""
    path = fake_data.write_cifar10(place / "cifar10") / "data_batch_1"
    path.write_bytes(pickle.dumps(batch(labels=fake_data.labels(20)), protocol=5))
    assert CIFAR10.create().load().train.y[:12].tolist() == [*range(10), 0, 1]


class Calls:
    """A pickle that calls ``function(*arguments)``."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        """The functions that the unpickler would call."""
        return self.call


def poisoned() -> bytes:
    """Sets the defaults of the function that stands for ``numpy.dtype``, then is a good batch."""
    head = b"\x80\x02cnumpy\ndtype\n(N}X\x0c\x00\x00\x00__defaults__NstR\x86b0"
    return head + pickle.dumps(batch(), protocol=2)[2:]


STRANGE = {
    "os": lambda: pickle.dumps(Calls(os.system, "touch harm-was-done")),
    "eval": lambda: pickle.dumps(Calls(eval, "1")),
    "import": lambda: pickle.dumps(Calls(__import__, "antigravity")),
    "other codec": lambda: pickle.dumps(Calls(codecs.encode, "x", "rot13")),
    "numpy's loader": lambda: pickle.dumps(Calls(np.load, "x.npy", None, True)),
    "huge": lambda: pickle.dumps(Calls(np.ndarray, (10**12,), np.dtype("u1"))),
    "objects": lambda: pickle.dumps(batch(data=np.array([[None]]))),
    "a subclass": lambda: pickle.dumps(batch(data=np.ma.array([1]))),
    "fields": lambda: pickle.dumps(batch(data=np.zeros(2, [("a", "u1")]))),
    "nested labels": lambda: pickle.dumps(batch(labels=[[0], [1]])),
    "fractions": lambda: pickle.dumps(batch(labels=[0.0, 1.0])),
    "truths": lambda: pickle.dumps(batch(labels=[True] * 20)),
    "persistent": lambda: b"\x80\x02X\x01\x00\x00\x00aQ.",
    "a huge frame": lambda: b"\x80\x05\x8e" + (2**60).to_bytes(8, "little") + b"x",
    "deep": lambda: b"\x80\x02" + b"]" * 100_000 + b".",
    "poison": poisoned,
}


@pytest.mark.parametrize("kind", STRANGE)
def test_cifar10_calls_nothing(kind, place, tmp_path, monkeypatch):
    """Whatever a pickle names, builds or alters: it is refused, and nothing is run."""
    monkeypatch.chdir(tmp_path)
    path = fake_data.write_cifar10(place / "cifar10") / "test_batch"
    path.write_bytes(STRANGE[kind]())
    with pytest.raises(StorageError, match="test_batch is damaged") as caught:
        CIFAR10.create().load()
    assert len(str(caught.value)) < 400
    assert not (tmp_path / "harm-was-done").exists()
    fake_data.write_cifar10(place / "cifar10")
    assert len(CIFAR10.create().load().test) == 20


@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 2, 5]))
@settings(max_examples=80)
def test_mutated_pickles(tmp_path_factory, seed, protocol):
    """A pickle with damaged bytes is read or named."""
    draw = random.Random(seed)
    content = bytearray(pickle.dumps(batch(2), protocol=protocol))
    for _ in range(draw.randint(1, 6)):
        content[draw.choice([draw.randrange(len(content)), draw.randrange(120)])] = draw.randrange(
            256
        )
    path = tmp_path_factory.getbasetemp() / "mutated_batch"
    path.write_bytes(bytes(content))
    with contextlib.suppress(StorageError):
        read_batch(path)


@pytest.mark.parametrize("spelling", ["-idx", ".idx"])
@pytest.mark.parametrize("beside", [True, False])
def test_mnist_in_folders_of_its_files_names(spelling, beside, place):
    """A folder that is called like the file holds it, or lies beside it."""
    folder = fake_data.write_mnist(place / "mnist", packed=False)
    expected = MNIST.create().load()
    for path in sorted(folder.iterdir()):
        aside = path.rename(path.with_suffix(".aside"))
        inner = folder / path.name
        inner.mkdir()
        dotted = path.name.replace("-idx", spelling)
        if beside:
            aside.rename(folder / path.name.replace("-idx", ".idx"))
        else:
            aside.rename(inner / dotted)
    data = MNIST.create().load()
    assert torch.equal(data.train.x, expected.train.x)
    assert torch.equal(data.test.y, expected.test.y)


def test_mnist_bombs(place):
    """What a small file unpacks to is read as far as its header says, and no further."""
    folder = fake_data.write_mnist(place / "mnist")
    path = folder / "t10k-images-idx3-ubyte.gz"
    header = struct.pack(">HBB3I", 0, 8, 3, 20, 28, 28)
    path.write_bytes(gzip.compress(header + bytes(200_000_000), 1))
    tracemalloc.start()
    with pytest.raises(StorageError, match="more bytes of items than its header says"):
        MNIST.create().load()
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    path.write_bytes(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 28, 28)))
    with pytest.raises(StorageError, match=r"its header says \[4294967295, 28, 28\]; at most"):
        MNIST.create().load()


@pytest.mark.parametrize("cls", WRITERS, ids=lambda cls: cls.name)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_files_that_are_none(cls, kind, place):
    """A pipe or a device in the place of a file is not taken for it, and nothing hangs."""
    WRITERS[cls](place)
    path = next(iter(cls.create().located().values()))
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(StorageError, match="not found"):
        cls.create({"download": False}).load()


def test_stl10_of_an_absurd_size(place):
    """A file beyond the cap is named before it is read."""
    path = fake_data.write_stl10(place / "stl10") / "train_X.bin"
    with path.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(StorageError, match=r"train_X\.bin is damaged: 1,000,000,000,000 bytes"):
        STL10.create().load()
