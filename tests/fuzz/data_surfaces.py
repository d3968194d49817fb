"""Images, tables and packed files of the datasets."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import fake_data
from PIL import Image
from surface import Surface


def write_images(folder: Path, encode: str = "png") -> None:
    """Two class folders of a dozen images each."""
    for number, name in enumerate(("cat", "dog")):
        place = folder / "data" / name
        place.mkdir(parents=True)
        for i in range(12):
            pixels = fake_data.pixels(12, 12, 3, seed=100 * number + i)
            Image.fromarray(pixels).save(place / f"{i:02d}.{encode}")


def folder_options(folder: Path) -> list[str]:
    """The options of a run on those images."""
    data = folder / "data"
    table = ("-d", "table=labels.csv") if (data / "labels.csv").exists() else ()
    return [
        *("--dataset", "image_folder", "-d", f"folder={data}", "-d", "size=16"),
        *("--forget", "cat", *table),
        *("--backbone", "vpsde", "--method", "unseen", "--preset", "quick"),
    ]


def _folder_commands(folder: Path) -> list[list[str]]:
    check = ["data", "check", "image_folder", "--data-dir", str(folder / "data")]
    return [check, ["run", *folder_options(folder), "--dry-run"]]


@functools.cache
def _folder_of(encode: str) -> Callable[[Path], None]:
    return lambda folder: write_images(folder, encode)


def _table(folder: Path) -> None:
    place = folder / "data"
    place.mkdir()
    lines = ["file,label"]
    for i in range(24):
        Image.fromarray(fake_data.pixels(12, 12, 3, seed=i)).save(place / f"{i:02d}.png")
        lines.append(f"{i:02d}.png,{'cat' if i % 2 else 'dog'}")
    (place / "labels.csv").write_text("\n".join(lines) + "\n")


def _mnist(folder: Path) -> None:
    fake_data.write_mnist(folder / "mnist", packed=False)


def _mnist_gz(folder: Path) -> None:
    fake_data.write_mnist(folder / "mnist")


def _cifar(folder: Path) -> None:
    fake_data.write_cifar10(folder / "cifar10")


def _celeba(folder: Path) -> None:
    fake_data.write_celeba(folder, count=20)


def _cell(dataset: str, forget: str) -> Callable[[Path], list[list[str]]]:
    options = ["--dataset", dataset, "--forget", forget, "--backbone", "vpsde", "--preset", "quick"]
    return lambda folder: [
        ["data", "check", dataset, "--data-dir", str(folder)],
        ["run", *options, "--method", "unseen", "--dry-run", "--data-dir", str(folder)],
    ]


def _stl10(folder: Path) -> None:
    fake_data.write_stl10(folder / "stl10", train=20, test=20)


PROMPTS_YAML = """
concepts:
  Van Gogh: {domain: style, anchor: a man, synonyms: [Vincent], prompts: {implicit: [a night]}}
  Monet: {domain: style, prompts: {pair: [{text: a dog, concepts: [Van Gogh], seed: 3}]}}
templates:
  - {text: "a {style}", groups: [train, target], seeds: [1, 2], guidance: 7.5}
words: []
"""
PROMPTS_CSV = "case_number,prompt,evaluation_seed,evaluation_guidance,class\n" + "".join(
    f"{i},a photo of {name},{1000 + i},7.5,{name}\n" for i, name in enumerate(("cat", "dog") * 3)
)


def _prompts(name: str, kind: str, text: str) -> Surface:
    return Surface(
        name,
        lambda folder: (folder / name).write_text(text, "utf-8"),
        name,
        kind,
        lambda folder: [["data", "check", "concepts", "-d", f"file={folder / name}"]],
    )


def _captions(folder: Path) -> None:
    place = folder / "data"
    place.mkdir()
    rows = []
    for i in range(10):
        Image.fromarray(fake_data.pixels(12, 12, 3, seed=i)).save(place / f"{i:02d}.png")
        concepts = ["cat", "dog"][: 1 + i % 2]
        rows.append(json.dumps({"file_name": f"{i:02d}.png", "text": "a", "concepts": concepts}))
    (place / "metadata.jsonl").write_text("\n".join(rows) + "\n")


def _check_captions(folder: Path) -> list[list[str]]:
    return [["data", "check", "captions", "--data-dir", str(folder / "data")]]


BATCHES, STL = "cifar10/cifar-10-batches-py", "stl10/stl10_binary"
IDX, FACES = "mnist/train-images-idx3-ubyte", "celeba/list_attr_celeba.txt"
FORMATS = ("png", "jpg", "bmp", "gif", "webp", "tiff", "ppm")
SURFACES = [
    Surface("table", _table, "data/labels.csv", "bytes", _folder_commands),
    *(
        Surface(
            *(f"{encode} image", _folder_of(encode), f"data/cat/03.{encode}", "bytes"),
            _folder_commands,
        )
        for encode in FORMATS
    ),
    Surface("idx", _mnist, IDX, "bytes", _cell("mnist", "3")),
    Surface("packed idx", _mnist_gz, f"{IDX}.gz", "bytes", _cell("mnist", "3")),
    Surface("CIFAR batch", _cifar, f"{BATCHES}/data_batch_1", "bytes", _cell("cifar10", "dog")),
    Surface("STL-10 labels", _stl10, f"{STL}/train_y.bin", "bytes", _cell("stl10", "cat")),
    Surface("STL-10 images", _stl10, f"{STL}/train_X.bin", "bytes", _cell("stl10", "cat")),
    _prompts("prompts.yaml", "yaml", PROMPTS_YAML),
    _prompts("prompts.csv", "bytes", PROMPTS_CSV),
    Surface("captions", _captions, "data/metadata.jsonl", "bytes", _check_captions),
    Surface("CelebA table", _celeba, FACES, "bytes", _cell("celeba", "bangs")),
]
