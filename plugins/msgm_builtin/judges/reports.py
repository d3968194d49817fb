"""Reports on a judge's accuracy on held-out items, JSON-ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from msgm_bench import Data, Judge, Prediction
from msgm_builtin.judges.augmentation import pixels

BATCH = 1000  # images that are judged at once
BALANCED = "balanced accuracy on held-out items (the lowest of the attributes to forget)"


def predict_held_out(judge: Judge, data: Data, device: torch.device) -> Prediction:
    """The judge's prediction for ``data.test``."""
    if not len(data.test):
        none = torch.zeros(0, dtype=torch.bool)
        return Prediction(torch.zeros_like(data.test.y), none)
    parts = [judge.predict(pixels(data, x).to(device)) for x in data.test.x.split(BATCH)]
    classes, recognised = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("classes", "recognised")
    )
    return Prediction(classes, recognised)


def report_of(data: Data, prediction: Prediction) -> dict[str, Any]:
    """The report on ``data.test``, of classes or of attributes; nulls where there are no items."""
    if not len(data.test):
        measures = ("accuracy", "balanced_accuracy", "share", "judged_share")
        names = data.classes if data.test.y.ndim == 2 else ()
        attributes = {name: dict.fromkeys(measures) for name in names}
        unmeasured = {"attributes": attributes} if names else {}
        return {"accuracy": None, "recognised": None, "items": 0} | unmeasured
    common = {"recognised": share(prediction.recognised), "items": len(data.test)}
    classes = prediction.classes.cpu()
    if data.test.y.ndim == 2:
        return attribute_report(data.classes, data.test.y, classes) | common
    return class_report(len(data.classes), data.test.y, classes) | common


def class_report(count: int, y: Tensor, predicted: Tensor) -> dict[str, Any]:
    """Accuracy, and the number of items of class i (row) that are judged as class j (column)."""
    confusion = torch.bincount(y * count + predicted, minlength=count**2).reshape(count, count)
    return {"accuracy": share(predicted == y), "confusion": confusion.tolist()}


def attribute_report(names: Sequence[str], y: Tensor, predicted: Tensor) -> dict[str, Any]:
    """Accuracy of each attribute, and the mean over them.

    Balanced accuracy is (sensitivity + specificity) / 2; a judge that always denies a rare
    attribute has 50 %. It is null where all items or no items carry the attribute.
    """
    attributes: dict[str, dict[str, float | None]] = {}
    for name, truth, judged in zip(names, y.T, predicted.T, strict=True):
        has_both = bool(truth.any()) and not bool(truth.all())
        balanced = (share(judged[truth]) + share(~judged[~truth])) / 2 if has_both else None
        attributes[name] = {
            "accuracy": share(judged == truth),
            "balanced_accuracy": balanced,
            "share": share(truth),
            "judged_share": share(judged),
        }
    return {"accuracy": share(predicted == y), "attributes": attributes}


def share(mask: Tensor) -> float:
    """The true share of ``mask``."""
    return float(mask.double().mean())


def quality_of(report: Mapping[str, Any], targets: Sequence[int]) -> float | None:
    """The accuracy; of attributes, the lowest balanced accuracy among ``targets``.

    None where one of them is not measured.
    """
    if "attributes" not in report:
        accuracy: float | None = report.get("accuracy")
        return accuracy
    attributes = list(report["attributes"].values())
    accuracies = [attributes[target]["balanced_accuracy"] for target in targets]
    return None if None in accuracies else min(accuracies)
