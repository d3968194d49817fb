"""CelebA: faces with forty attributes, read from images, attribute table and partition alone."""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import Data, Dataset, DatasetInfo, Examples, Source, hookimpl
from msgm_builtin.datasets.celeba_boxes import face_regions
from msgm_builtin.datasets.files import FileDataset, FilesOptions, damaged, read_file
from msgm_builtin.datasets.images import Recipe, decode_all, hash_all, names_error
from msgm_builtin.datasets.presets import presets_celeba

IMAGES, ATTRIBUTES, PARTITION = (
    "img_align_celeba",
    "list_attr_celeba.txt",
    "list_eval_partition.txt",
)
NAMES = (  # as in the published table
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose "
    "Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee "
    "Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes "
    "No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling "
    "Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)
CROP, SIZE = 140, 64
MAX_BYTES = 2**27  # of a table; the published one has 27 million
COUNT = re.compile("[0-9]{1,12}")
PARTS = {"train": 0, "valid": 1, "test": 2}
COUNTS = {"train": 162_770, "valid": 19_867, "test": 19_962}
TABLES = "attribute table and partition come with the images on the dataset's page"
DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="


class CelebAOptions(FilesOptions):
    """Place of the files, split and preprocessing."""

    split: Literal["test", "valid"] = Field("test", description="the held-out part")
    size: int = Field(SIZE, ge=8, le=CROP, description="side of the reduced image, px")
    flip: bool = Field(False, description="mirror training images with probability 1/2")


class CelebA(FileDataset[CelebAOptions]):
    """Celebrities' faces at 64x64 colour, 40 attributes: 162,770 for training, 19,962 held out.

    Centre crop of 140 px, then reduced with antialiasing. A face may carry any number of the
    attributes; to forget one is to forget the faces that carry it.
    """

    name = "celeba"
    citation = "Liu, Luo, Wang, Tang 2015, arXiv:1411.7766"
    presets = presets_celeba()
    folders = ("celeba", "CelebA", ".")
    aliases = {
        IMAGES: (f"{IMAGES}/{IMAGES}", f"Img/{IMAGES}", IMAGES),
        ATTRIBUTES: (ATTRIBUTES, f"Anno/{ATTRIBUTES}", "list_attr_celeba.csv"),
        PARTITION: (PARTITION, f"Eval/{PARTITION}", "list_eval_partition.csv"),
    }
    image_folders = frozenset({IMAGES})
    advice = (
        "by hand: img_align_celeba.zip (unpacked), list_attr_celeba.txt and "
        "list_eval_partition.txt from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html into "
        "DIR/celeba; no other table is needed"
    )
    published = (  # identifiers and checksums as in torchvision's source
        Source(
            "img_align_celeba.zip",
            (DRIVE + "0B7EVK8r0v71pZjFTYXZWM3FlRnM",),
            ("00d2c5bc6d35e252742224ab0c1e8fcb",),
            1_443_490_838,
            (Source(IMAGES),),
        ),
        Source(
            ATTRIBUTES,
            (DRIVE + "0B7EVK8r0v71pblRyaVFSWGxPY0U",),
            ("75e246fa4810816ffd6ee81facbd244c",),
        ),
        Source(
            PARTITION,
            (DRIVE + "0B7EVK8r0v71pY0NSMzRuSXJEVkk",),
            ("d32c9cbf5e040fd4025c592c306e6668",),
        ),
    )

    def info(self) -> DatasetInfo:
        """The published partition and attributes, at the size of the options."""
        shape = (3, self.options.size, self.options.size)
        held_out = COUNTS[self.options.split]
        return DatasetInfo(shape, tuple(NAMES.split()), COUNTS["train"], held_out, attributes=True)

    def verify(self) -> str:
        """Compare the names of all images with the tables; the images are not decoded."""
        files = self.files()
        _, labels = read_attributes(files[ATTRIBUTES])
        read_partition(files[PARTITION], labels)
        find_images(files[IMAGES], labels)
        return "names are those of the tables, images not opened"

    def read(self, files: Mapping[str, Path]) -> Data:
        """The published partition; images are decoded once, into the user's cache."""
        c = self.options
        classes, labels = read_attributes(files[ATTRIBUTES])
        part = read_partition(files[PARTITION], labels)
        names = [name for name in labels if part[name] in (PARTS["train"], PARTS[c.split])]
        find_images(files[IMAGES], names)
        recipe = Recipe(3, (c.size, c.size), CROP)

        def examples(split: str) -> Examples:
            chosen = [name for name in names if part[name] == PARTS[split]]
            if not chosen:
                raise damaged(files[PARTITION], f"no image of part {PARTS[split]} ({split})")
            paths = {name: files[IMAGES] / name for name in chosen}
            y = torch.stack([labels[name] for name in chosen])
            images = hash_all(f"celeba-{split}", paths)
            return Examples(decode_all(f"celeba-{split}", images, recipe), y)

        words = [c.split, *([f"{c.size}px"] if c.size != SIZE else []), *(["flip"] * c.flip)]
        protocol = f"celeba/{'+'.join(words)}@1"
        train, test = examples("train"), examples(c.split)
        regions = face_regions(classes, c.size)
        return Data(train, test, classes, 256, protocol=protocol, flip=c.flip, regions=regions)


def find_images(folder: Path, names: Iterable[str]) -> None:
    """Look for every image of the tables in ``folder``.

    Raises:
        StorageError: Images are missing, or ``folder`` is no folder.
    """
    try:
        existing = {entry.name for entry in os.scandir(folder)}
    except OSError as error:
        raise damaged(folder, error, TABLES) from error
    if absent := [name for name in names if name not in existing]:
        raise names_error(f"images missing in {folder}", absent, TABLES)


def read_rows(path: Path) -> Iterator[list[str]]:
    """Words of each line that is not empty; separated by blanks or commas.

    Raises:
        StorageError: The file is no text.
    """
    try:
        text = read_file(path, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise damaged(path, error, TABLES) from error
    for line in io.StringIO(text):
        if words := line.replace(",", " ").split():
            yield words


def read_attributes(path: Path) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Names of the attributes, and ``bool [A]`` of each image.

    The table: the number of images on a line of its own (not in CSV), the names, and a line an
    image of -1 and 1, or of 0 and 1.

    Raises:
        StorageError: The table is cut short or has another content.
    """
    rows = read_rows(path)
    head = next(rows, [])
    count = int(head[0]) if len(head) == 1 and COUNT.fullmatch(head[0]) else None
    head = head if count is None else next(rows, [])
    labels, values = dict[str, Tensor](), set[str]()
    names: tuple[str, ...] = ()
    for file, *row in rows:
        names = names or tuple(head[1:] if len(head) == len(row) + 1 else head)
        if len(row) != len(names) or not {"-1", "0", "1"}.issuperset(row):
            raise damaged(path, f"line of {file}: not {len(names)} values -1 or 1", TABLES)
        if file in labels:
            raise damaged(path, f"two lines of {file}", TABLES)
        values.update(row)
        labels[file] = torch.tensor([value == "1" for value in row])
    if not labels:
        raise damaged(path, "no table of attributes", TABLES)
    if len(set(names)) < len(names):
        raise damaged(path, "two attributes of one name", TABLES)
    if {"-1", "0"} <= values:
        raise damaged(path, "-1 beside 0: an attribute is there or not", TABLES)
    if count is not None and count != len(labels):
        raise damaged(path, f"{len(labels):,} of the {count:,} images that it announces", TABLES)
    return names, labels


def read_partition(path: Path, labels: Mapping[str, Tensor]) -> dict[str, int]:
    """The part of each image: 0 for training, 1 for validation, 2 for the test.

    Raises:
        StorageError: The file is cut short, or has other images than the attribute table.
    """
    known = {str(number) for number in PARTS.values()}
    rows = [row for row in read_rows(path) if row[0] != "image_id"]
    if wrong := [row[0] for row in rows if len(row) != 2 or row[1] not in known]:
        raise names_error(f"{path}: lines without a part 0, 1 or 2", wrong, TABLES)
    part = {file: int(number) for file, number in rows}
    if len(part) < len(rows):
        twice = sorted(name for name, n in Counter(row[0] for row in rows).items() if n > 1)
        raise names_error(f"{path} has two lines of images", twice, TABLES)
    if different := sorted(set(part) ^ set(labels)):
        raise names_error(f"{path} and the attribute table differ", different, TABLES)
    return part


@hookimpl
def register_datasets() -> Sequence[type[Dataset]]:
    """CelebA."""
    return [CelebA]
