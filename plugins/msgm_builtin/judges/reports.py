"""How well a judge does on held-out items, JSON-ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from msgm_bench import Data, Judge, Prediction
from msgm_builtin.judges.augmentation import pixels

PART = 1000  # images that are looked at together
BALANCED = "balanced accuracy on held-out items (the lowest of the attributes to forget)"


def judged(judge: Judge, data: Data, device: torch.device) -> Prediction:
    """What the judge says of ``data.test``, looked at in parts."""
    parts = [judge.predict(pixels(data, x).to(device)) for x in data.test.x.split(PART)]
    classes, recognised = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("classes", "recognised")
    )
    return Prediction(classes, recognised)


def report_of(data: Data, prediction: Prediction) -> dict[str, Any]:
    """The report on ``data.test``, of classes or of attributes."""
    common = {"recognised": share(prediction.recognised), "items": len(data.test)}
    found = prediction.classes.cpu()
    if data.test.y.ndim == 2:
        return attribute_report(data.classes, data.test.y, found) | common
    return class_report(len(data.classes), data.test.y, found) | common


def class_report(count: int, y: Tensor, found: Tensor) -> dict[str, Any]:
    """Accuracy, and how often class i (row) was taken for class j (column)."""
    confusion = torch.bincount(y * count + found, minlength=count**2).reshape(count, count)
    return {"accuracy": share(found == y), "confusion": confusion.tolist()}


def attribute_report(names: Sequence[str], y: Tensor, found: Tensor) -> dict[str, Any]:
    """Accuracy of each attribute, and the mean over them.

    The balanced accuracy, (sensitivity + specificity) / 2, is what counts for rare attributes: to
    say no always scores 50 %. It is null where all or none of the items carry the attribute.
    """
    each: dict[str, dict[str, float | None]] = {}
    for name, truth, said in zip(names, y.T, found.T, strict=True):
        both = bool(truth.any()) and not bool(truth.all())
        balanced = (share(said[truth]) + share(~said[~truth])) / 2 if both else None
        each[name] = {
            "accuracy": share(said == truth),
            "balanced_accuracy": balanced,
            "share": share(truth),
            "judged_share": share(said),
        }
    return {"accuracy": share(found == y), "attributes": each}


def share(mask: Tensor) -> float:
    """Part of ``mask`` that is true."""
    return float(mask.double().mean())


def quality_of(report: Mapping[str, Any], targets: Sequence[int]) -> float | None:
    """The accuracy; of attributes, the lowest balanced accuracy among ``targets``.

    None where one of them could not be measured.
    """
    if "attributes" not in report:
        accuracy: float | None = report.get("accuracy")
        return accuracy
    each = list(report["attributes"].values())
    found = [each[target]["balanced_accuracy"] for target in targets]
    return None if None in found else min(found)
