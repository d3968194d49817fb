"""A convolutional classifier with a reject class, trained on the dataset at hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from msgm_bench import Data, IncompatibleError, Judge, Prediction, hookimpl
from msgm_builtin.judges.learned import LearnedJudge


class Classifier(LearnedJudge):
    """Convolutional network with a class for images that are not of the dataset.

    Beside the K classes it learns to reject images under strong noise, shuffled pixels and
    uniform noise. An item is recognised unless it is rejected or its confidence is below the
    ``rejection_rate`` quantile of real items that took no part in training.
    """

    name = "classifier"
    calibrated = ("threshold",)

    def check_labels(self, data: Data) -> None:
        """Refuse attributes, and images of one class alone.

        Raises:
            IncompatibleError: The labels are one of these.
        """
        if data.train.y.ndim != 1:
            raise IncompatibleError(
                "the judge 'classifier' on images with attributes",
                "images with one class each",
                "attributes have a judge of their own: -j name=attributes",
            )
        if len(data.train.y.unique()) < 2:
            raise IncompatibleError(
                f"the judge 'classifier' on {len(data.train)} images of one class",
                "training images of two classes or more",
            )

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy; spoiled items have the class after the last."""
        rejected = torch.full((len(logits) - len(y),), logits.shape[1] - 1).to(y)
        return F.cross_entropy(logits, torch.cat([y, rejected]))

    def calibrate(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The ``rejection_rate`` quantile of the confidence in real items."""
        confidence = logits.softmax(dim=1)[:, :-1].amax(dim=1)
        return {"threshold": torch.quantile(confidence, self.options.rejection_rate)}

    def predict(self, x: Tensor) -> Prediction:
        """The most likely of the K classes, and whether it is likely enough."""
        finite = torch.isfinite(x).flatten(1).all(dim=1)
        probabilities = self.logits(x).softmax(dim=1)
        confidence, classes = probabilities[:, :-1].max(dim=1)
        recognised = (confidence >= self.calibration["threshold"]) & (
            confidence > probabilities[:, -1]
        )
        return Prediction(classes, recognised & finite)


@hookimpl
def register_judges() -> Sequence[type[Judge]]:
    """The classifier."""
    return [Classifier]
