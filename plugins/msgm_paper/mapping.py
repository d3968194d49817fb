"""From the paper's words to the benchmark's: which run a cell asks for, and which row of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgm_bench import Result, Row, SpecRecord
from msgm_paper.tables import Cell

BASELINES = ("standard", "unseen")  # trained from scratch in the tables of fine-tuning, too
REAL = "real-data"  # the paper's column of the real images themselves
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
ROWS = {"ur": "ur_argmax"}  # the row that counts as the paper does, where the headline does not
PROTOCOLS = {  # what the id of a row's protocol begins with
    "ur": "unlearning_ratio/",
    "nll": "nll/pf-ode@",
    "acc": "acc/judge",
    "fid": "fid/inception-2015",
    "clip": "clip/l2",
    "psnr": "psnr/mean",
    "ssim": "ssim/",
}
RECONSTRUCTION = "/reconstruction@2"  # and what it ends with: through the latent
UNITS = {"embedding distance": "1"}
STEPS = {  # optimiser steps that the paper or its authors' configurations state
    ("cifar10", "retrain"): 660_000,
    ("ddpm", "finetune"): 30_000,
    ("vesde", "finetune"): 80_000,
    ("vpsde", "finetune"): 80_000,
}


@dataclass(frozen=True)
class Choice:
    """An odd choice of the paper that the benchmark has by name and not by default.

    Attributes:
        options: The flag and the ``key=value`` that make it.
        made: Whether a run made it.
        reason: Why values of other runs do not compare.
        task: The only task that it concerns; all without one.
    """

    options: tuple[str, str]
    made: Callable[[Result], bool]
    reason: str
    task: str = ""


def _split(result: Result) -> bool:
    return result.spec.dataset_params.get("split") == "paper"


def _forehead(result: Result) -> bool:
    """Whether what was drawn is of the paper's size, wherever it lies."""
    protocols = [record.settings for record in result.protocols.values()]
    drawn = [settings["inpainting"]["box"] for settings in protocols if "inpainting" in settings]
    return bool(drawn) and all(list(box[2:]) == [16, 64] for box in drawn)


CHOICES = {
    "stl10": Choice(
        ("-d", "split=paper"),
        _split,
        "the paper trained on STL-10's train and test images and evaluated on training images; "
        "-d split=paper does so",
    ),
    "celeba": Choice(
        ("-t", "inpainting.box=[32, 0, 16, 64]"),
        _forehead,
        "another region: the paper drew 64x16 of 64x64 pixels (rows 32 to 48 in the released "
        "script)",
        "inpainting",
    ),
}


@dataclass(frozen=True)
class Setting:
    """A run that the paper made, in the benchmark's words.

    Attributes:
        dataset: Name of the dataset.
        forget: What is forgotten.
        backbone: Name of the backbone.
        method: Name of the method; empty where any will do.
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
        """Options of the method, as far as the paper states them."""
        stated = dict(STATED.get(self.method, {}))
        return stated if self.alpha is None else stated | {"alpha": self.alpha}

    @property
    def steps(self) -> int | None:
        """Training steps that the paper states, or None."""
        of_dataset = STEPS.get((self.dataset, self.regime))
        return STEPS.get((self.backbone, self.regime), of_dataset)

    def matches(self, spec: SpecRecord) -> bool:
        """Whether a run is of this dataset, forget set, backbone, method and regime."""
        forgotten = {name.lower() for name in spec.forget}
        place = (spec.dataset, forgotten, spec.backbone)
        if place != (self.dataset, set(self.forget), self.backbone):
            return False
        return not self.method or (spec.method, spec.regime) == (self.method, self.regime)

    def command(self, out: str = "runs") -> str | None:
        """What runs it at the paper's budgets; None where no method is meant."""
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
    """The row of a result that a cell stands for.

    Attributes:
        task: Name of the task.
        metric: Name of the row, in lower case.
        split: Name of the split.
        unit: The unit.
        protocol: What the id of its protocol begins with.
        variant: What the id ends with.
    """

    task: str
    metric: str
    split: str
    unit: str
    protocol: str
    variant: str = ""

    def row(self, result: Result) -> Row | None:
        """It, or None where the result lacks it."""
        return next((row for row in result.metrics if self._is(row)), None)

    def _is(self, row: Row) -> bool:
        named = (row.task, row.metric.lower(), row.split, row.unit)
        wanted = (self.task, self.metric, self.split, self.unit)
        known = row.protocol.startswith(self.protocol) and row.protocol.endswith(self.variant)
        return named == wanted and known


def setting(cell: Cell) -> Setting:
    """The run behind a cell."""
    name, alpha = _method(cell.method)
    regime = "retrain" if name in BASELINES else cell.regime
    return Setting(cell.dataset, tuple(cell.forget.split(",")), cell.backbone, name, regime, alpha)


def quantity(cell: Cell) -> Quantity:
    """The row behind a cell; of real images it is the judge's own accuracy."""
    name, colon, label = cell.metric.partition(":")
    metric = "acc_clean" if cell.method == REAL else ROWS.get(name, name) + colon + label
    unit = UNITS.get(cell.unit, cell.unit)
    variant = RECONSTRUCTION if cell.task == "reconstruction" else ""
    return Quantity(cell.task, metric, cell.split, unit, PROTOCOLS[kind(cell)], variant)


def kind(cell: Cell) -> str:
    """The metric without a class: ``ur`` of ``ur:3``."""
    return cell.metric.partition(":")[0]


def _method(column: str) -> tuple[str, float | None]:
    """``ort(alpha=0.7)`` to the method's name and an alpha that is not the preset's."""
    if column == REAL:
        return "", None
    found = re.fullmatch(r"(\w+\??)(?:\(alpha=([\d.]+)\))?", column)
    assert found is not None, column
    alpha = float(found[2] or MSGM["alpha"])
    return METHODS.get(found[1], found[1]), None if alpha == MSGM["alpha"] else alpha
