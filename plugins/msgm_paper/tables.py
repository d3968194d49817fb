"""The published numbers of the MSGM paper, a ``PublishedValue`` each."""

from __future__ import annotations

import csv
import functools
import importlib.resources
from dataclasses import dataclass

SOURCE = "arXiv:2412.07229"
FILE = "msgm_paper_tables.csv"
TITLES = {
    1: "likelihood of the toy mixture",
    2: "unlearning by retraining: unlearning ratio and likelihood",
    3: "inpainting",
    4: "reconstruction",
    5: "unlearning by fine-tuning: likelihood",
    6: "unlearning by fine-tuning: unlearning ratio",
    7: "ablation of alpha",
}


@dataclass(frozen=True)
class PublishedValue:
    """One published value, in the words of the file.

    Attributes:
        table: Number of the paper's table.
        dataset: Name of the dataset.
        backbone: Name of the backbone.
        regime: ``retrain`` or ``finetune``.
        method: The paper's column; a ``?`` marks a guess.
        forget: Classes, separated by commas.
        task: ``generation``, ``likelihood``, ``inpainting`` or ``reconstruction``.
        metric: ``ur``, ``ur:CLASS``, ``nll``, ``acc``, ``fid``, ``clip``, ``psnr`` or ``ssim``.
        split: ``samples``, ``retain`` or ``forget``.
        value: The value as printed.
        unit: ``%``, ``bits/dim``, ``bits/dim+8``, ``dB``, ``embedding distance`` or ``1``.
    """

    table: int
    dataset: str
    backbone: str
    regime: str
    method: str
    forget: str
    task: str
    metric: str
    split: str
    value: float
    unit: str

    @property
    def digits(self) -> int:
        """Decimals of a measured value: one for per cent, else two."""
        return 1 if self.unit == "%" else 2

    @property
    def place(self) -> str:
        """Place in the paper, without the method: ``table 3, cifar10: fid retain``."""
        split = "" if self.split == "samples" else f" {self.split}"
        return f"table {self.table}, {self.dataset}: {self.metric}{split}"


@functools.cache
def published_values() -> tuple[PublishedValue, ...]:
    """Every value, in the order of the file."""
    text = (importlib.resources.files(__package__) / FILE).read_text(encoding="utf-8")
    return tuple(_parse(**row) for row in csv.DictReader(text.splitlines()))


def _parse(source: str, table: str, value: str, **words: str) -> PublishedValue:
    return PublishedValue(table=int(table), value=float(value), **words)
