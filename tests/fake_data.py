"""Small files in the real formats of the public image datasets."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose "
    "Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee "
    "Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard "
    "Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling "
    "Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)
ATTRIBUTES = NAMES.split()


def pixels(*shape, seed=0):
    """Grey levels that differ everywhere."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def labels(count, classes=10):
    """Every class, in turn."""
    return np.arange(count) % classes


def idx(array):
    """An IDX file of unsigned bytes."""
    array = np.asarray(array, dtype=np.uint8)
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path, train=40, test=20, packed=True, side=28) -> Path:
    """The four files of MNIST or Fashion-MNIST."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count, seed in (("train", train, 1), ("t10k", test, 2)):
        images = idx(pixels(count, side, side, seed=seed))
        for kind, content in (("images-idx3", images), ("labels-idx1", idx(labels(count)))):
            name = f"{part}-{kind}-ubyte"
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
            else:
                (folder / name).write_bytes(content)
    return folder


class Python2(pickle._Pickler):  # the pure Python one, whose parts can be replaced
    """Writes texts and bytes as Python 2's ``str``, as in the files of CIFAR-10."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        """BINSTRING."""
        self.write(b"T" + struct.pack("<I", len(value)) + value)

    def save_str(self, value):
        """The same: Python 2 knows one kind."""
        self.save_bytes(value.encode("latin1"))

    dispatch[bytes], dispatch[str] = save_bytes, save_str


def python2(value) -> bytes:
    """A pickle as Python 2 and NumPy 1 would write it."""
    stream = io.BytesIO()
    Python2(stream, protocol=2).dump(value)
    return stream.getvalue().replace(b"numpy._core", b"numpy.core")


def write_cifar10(folder: Path, count=20) -> Path:
    """``cifar-10-batches-py`` in ``folder``: five batches for training, one for the test."""
    inner = folder / "cifar-10-batches-py"
    inner.mkdir(parents=True, exist_ok=True)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for seed, name in enumerate(names):
        batch = {
            "batch_label": name,
            "labels": [int(label) for label in labels(count)],
            "data": pixels(count, 3072, seed=seed),
            "filenames": [f"{i}.png" for i in range(count)],
        }
        (inner / name).write_bytes(python2(batch))
    (inner / "batches.meta").write_bytes(python2({"label_names": list("abcdefghij")}))
    return inner


def write_stl10(folder: Path, train=20, test=30) -> Path:
    """``stl10_binary`` in ``folder``, without the unlabelled images."""
    inner = folder / "stl10_binary"
    inner.mkdir(parents=True, exist_ok=True)
    for part, count, seed in (("train", train, 1), ("test", test, 2)):
        smooth = pixels(count, 3, 12, 12, seed=seed).repeat(8, axis=2).repeat(8, axis=3)
        (inner / f"{part}_X.bin").write_bytes(smooth.transpose(0, 1, 3, 2).tobytes())
        (inner / f"{part}_y.bin").write_bytes((labels(count) + 1).astype(np.uint8).tobytes())
    return inner


def celeba_truth(count=50):
    """``(names, bool [count, 40], part [count])``: every attribute on some face of each part."""
    names = [f"{i:06d}.jpg" for i in range(1, count + 1)]
    truth = (np.arange(count)[:, None] * 7 + np.arange(40)) % 5 == 0
    part = np.where(np.arange(count) < count * 3 // 5, 0, np.where(np.arange(count) % 2, 2, 1))
    return names, truth, part


def write_celeba(folder: Path, count=50) -> Path:
    """``celeba`` in ``folder``: jpgs of 178x218, attribute table, partition; nothing else."""
    root = folder / "celeba"
    images = root / "img_align_celeba"
    images.mkdir(parents=True, exist_ok=True)
    names, truth, part = celeba_truth(count)
    for i, name in enumerate(names):
        coarse = Image.fromarray(pixels(12, 10, 3, seed=i))
        coarse.resize((178, 218), Image.Resampling.BICUBIC).save(images / name, quality=95)
    rows = [
        f"{name} " + " ".join(" 1" if value else "-1" for value in row)
        for name, row in zip(names, truth, strict=True)
    ]
    table = [str(count), " ".join(ATTRIBUTES) + " ", *rows, ""]
    (root / "list_attr_celeba.txt").write_text("\n".join(table))
    lines = [f"{name} {number}" for name, number in zip(names, part, strict=True)]
    (root / "list_eval_partition.txt").write_text("\n".join([*lines, ""]))
    return root


def write_images(folder: Path, count=10, side=16, grey=False, seed=0, suffix=".png") -> Path:
    """``count`` images in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        shape = (side, side) if grey else (side, side, 3)
        image = Image.fromarray(pixels(*shape, seed=seed + i))
        image.save(folder / f"{i:03d}{suffix}")
    return folder


def md5(path: Path) -> str:
    """Checksum of a file."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
