"""From the paper's words to the benchmark's: the run and the row of a published value."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgm_bench import Result, Row, SpecRecord
from msgm_paper.tables import PublishedValue

BASELINES = ("standard", "unseen")  # trained from scratch in the tables of fine-tuning, too
REAL = "real-data"  # the paper's column of real images
METHODS = {  # columns whose method has another name here; a ? marks a guess
    **{"msgm": "obt", "ort?": "ort", "obt?": "obt"},
    "erasediff": "erase",  # the authors' own, and not the EraseDiff of its paper
}
MSGM = {"alpha": 0.99, "forget_interval": 4}
STATED: Mapping[str, Mapping[str, Any]] = {  # options of the methods as equations 7 to 9 have them
    "ort": MSGM | {"product": "inner"},
    "obt": MSGM
    | {"sign": "paper", "use_cosine": False, "hinge": None, "max_error": None, "norm_weight": 0.0},
    "erase": MSGM,
}
ROWS = {"ur": "ur_argmax"}  # the row with the paper's count, where the headline has another
PROTOCOLS = {  # start of the id of a row's protocol
    "ur": "unlearning_ratio/",
    "nll": "nll/pf-ode@",
    "acc": "acc/judge",
    "fid": "fid/inception-2015",
    "clip": "clip/l2",
    "psnr": "psnr/mean",
    "ssim": "ssim/",
}
RECONSTRUCTION = "/reconstruction@2"  # end of the id: through the latent
UNITS = {"embedding distance": "1"}
STEPS = {  # optimiser steps in the paper or its authors' configurations
    ("cifar10", "retrain"): 660_000,
    ("ddpm", "finetune"): 30_000,
    ("vesde", "finetune"): 80_000,
    ("vpsde", "finetune"): 80_000,
}


@dataclass(frozen=True)
class Choice:
    """An unusual choice of the paper, which is not the benchmark's default.

    Attributes:
        options: The flag and the ``key=value`` of the choice.
        is_made: Whether a run has made the choice.
        reason: Reason why values of other runs do not compare.
        task: The only task that the choice concerns; empty: all.
    """

    options: tuple[str, str]
    is_made: Callable[[Result], bool]
    reason: str
    task: str = ""


def _has_paper_split(result: Result) -> bool:
    """Whether the run has the paper's split of STL-10."""
    return result.spec.dataset_params.get("split") == "paper"


def _has_paper_box(result: Result) -> bool:
    """Whether the inpainted box has the paper's size, at any position."""
    protocols = [record.settings for record in result.protocols.values()]
    boxes = [settings["inpainting"]["box"] for settings in protocols if "inpainting" in settings]
    return bool(boxes) and all(list(box[2:]) == [16, 64] for box in boxes)


CHOICES = {
    "stl10": Choice(
        ("-d", "split=paper"),
        _has_paper_split,
        "the paper trained on STL-10's train and test images and evaluated on training images; "
        "-d split=paper does so",
    ),
    "celeba": Choice(
        ("-t", "inpainting.box=[32, 0, 16, 64]"),
        _has_paper_box,
        "another region: the paper drew 64x16 of 64x64 pixels (rows 32 to 48 in the released "
        "script)",
        "inpainting",
    ),
}


@dataclass(frozen=True)
class Setting:
    """A run of the paper, in the benchmark's words.

    Attributes:
        dataset: Name of the dataset.
        forget: Names of the classes to forget.
        backbone: Name of the backbone.
        method: Name of the method; empty: any method.
        regime: ``retrain`` or ``finetune``; baselines are always retrained.
        alpha: The weight where it is not the preset's.
    """

    dataset: str
    forget: tuple[str, ...]
    backbone: str
    method: str
    regime: str
    alpha: float | None = None

    @property
    def params(self) -> dict[str, Any]:
        """Options of the method that the paper states."""
        stated = dict(STATED.get(self.method, {}))
        return stated if self.alpha is None else stated | {"alpha": self.alpha}

    @property
    def steps(self) -> int | None:
        """Training steps of the paper, or None."""
        of_dataset = STEPS.get((self.dataset, self.regime))
        return STEPS.get((self.backbone, self.regime), of_dataset)

    def matches(self, spec: SpecRecord) -> bool:
        """Whether a run is of this dataset, forget set, backbone, method and regime."""
        forget = {name.lower() for name in spec.forget}
        if (spec.dataset, forget, spec.backbone) != (self.dataset, set(self.forget), self.backbone):
            return False
        return not self.method or (spec.method, spec.regime) == (self.method, self.regime)

    def command(self, out: str = "runs") -> str | None:
        """The command of this run at the paper's budgets; None without a method."""
        if not self.method:
            return None
        options = ["--dataset", self.dataset, "--forget", ",".join(self.forget)]
        options += ["--backbone", self.backbone, "--method", self.method]
        options += ["--regime", self.regime, "--preset", "paper", "--seed", "0"]
        options += [] if self.alpha is None else ["-p", f"alpha={self.alpha:g}"]
        options += CHOICES[self.dataset].options if self.dataset in CHOICES else ()
        options += [] if out == "runs" else ["--out", out]
        return shlex.join(["msgm-bench", "run", *options])


@dataclass(frozen=True)
class Quantity:
    """The row of a published value.

    Attributes:
        task: Name of the task.
        metric: Name of the row, in lower case.
        split: Name of the split.
        unit: The unit.
        protocol: Start of the id of the row's protocol.
        variant: End of the id.
    """

    task: str
    metric: str
    split: str
    unit: str
    protocol: str
    variant: str = ""

    def row(self, result: Result) -> Row | None:
        """The row in ``result``, or None."""
        return next((row for row in result.metrics if self._matches(row)), None)

    def _matches(self, row: Row) -> bool:
        names = (row.task, row.metric.lower(), row.split, row.unit)
        protocol = row.protocol
        return (
            names == (self.task, self.metric, self.split, self.unit)
            and protocol.startswith(self.protocol)
            and protocol.endswith(self.variant)
        )


def setting(entry: PublishedValue) -> Setting:
    """The run of a published value."""
    name, alpha = _method(entry.method)
    regime = "retrain" if name in BASELINES else entry.regime
    return Setting(
        entry.dataset,
        tuple(entry.forget.split(",")),
        entry.backbone,
        name,
        regime,
        alpha,
    )


def quantity(entry: PublishedValue) -> Quantity:
    """The row of a published value; of real images it is the judge's own accuracy."""
    name, colon, label = entry.metric.partition(":")
    metric = "acc_clean" if entry.method == REAL else ROWS.get(name, name) + colon + label
    unit = UNITS.get(entry.unit, entry.unit)
    variant = RECONSTRUCTION if entry.task == "reconstruction" else ""
    return Quantity(entry.task, metric, entry.split, unit, PROTOCOLS[kind(entry)], variant)


def kind(entry: PublishedValue) -> str:
    """The metric without a class: ``ur`` of ``ur:3``."""
    return entry.metric.partition(":")[0]


def _method(column: str) -> tuple[str, float | None]:
    """Name of the method and alpha of ``ort(alpha=0.7)``; None for the preset's alpha."""
    if column == REAL:
        return "", None
    match = re.fullmatch(r"(\w+\??)(?:\(alpha=([\d.]+)\))?", column)
    assert match is not None, column
    alpha = float(match[2] or MSGM["alpha"])
    return METHODS.get(match[1], match[1]), None if alpha == MSGM["alpha"] else alpha
