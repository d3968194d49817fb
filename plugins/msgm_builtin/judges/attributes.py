"""A convolutional judge of attributes, of which an image may have any number."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from msgm_bench import Data, IncompatibleError, Judge, Prediction, hookimpl
from msgm_builtin.judges.learned import LearnedJudge, LearnedOptions
from msgm_builtin.judges.reports import BALANCED


class AttributesOptions(LearnedOptions):
    """Network and training."""

    gate: float = Field(
        0.85,
        ge=0,
        le=1,
        exclude=True,
        description="least balanced accuracy of the attributes to forget, else a stamp",
    )


class Attributes(LearnedJudge[AttributesOptions]):
    """Convolutional network that predicts of each attribute whether an image has it.

    One logit an attribute, and one that rejects images not of the dataset: images under strong
    noise, shuffled pixels and uniform noise, which train no attribute. An attribute is present
    above its cut, the logit that as many of the real items outside training exceed as have the
    attribute: the share of samples with it is then unbiased where samples look like data, for
    rare attributes too. An item is recognised unless it is rejected, or its logit of rejection is
    above those of all but ``rejection_rate`` of these real items.
    """

    name = "attributes"
    criterion = BALANCED
    calibrated = ("threshold", "cuts")

    def check_labels(self, data: Data) -> None:
        """Refuse images without attributes.

        Raises:
            IncompatibleError: The images have one class each.
        """
        if data.train.y.ndim != 2:
            raise IncompatibleError(
                "the judge 'attributes' on images with one class each",
                "images with attributes",
                "classes have a judge of their own: -j name=classifier",
            )

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Binary cross-entropies of real items' attributes, and of rejecting spoiled items."""
        spoiled = (torch.arange(len(logits), device=logits.device) >= len(y)).float()
        attributes = F.binary_cross_entropy_with_logits(logits[: len(y), :-1], y.float())
        return attributes + F.binary_cross_entropy_with_logits(logits[:, -1], spoiled)

    def calibrate(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The least score of a real item, and the cut of each attribute."""
        threshold = torch.quantile(-logits[:, -1], self.options.rejection_rate)
        return {"threshold": threshold, "cuts": cuts(logits[:, :-1], y)}

    def predict(self, x: Tensor) -> Prediction:
        """Attributes ``bool [N, A]``, and which items are images of the dataset."""
        finite = torch.isfinite(x).flatten(1).all(dim=1)
        logits = self.logits(x)
        recognised = (-logits[:, -1] >= self.calibration["threshold"]) & (logits[:, -1] < 0)
        return Prediction(logits[:, :-1] > self.calibration["cuts"], recognised & finite)


def cuts(logits: Tensor, y: Tensor) -> Tensor:
    """The logit of each attribute that as many items exceed as have the attribute.

    Args:
        logits: ``[N, A]``.
        y: ``bool [N, A]``.

    Returns:
        ``[A]``: half-way between two items; infinite where no item or every item has the attribute.
    """
    bound = logits.new_full((1, logits.shape[1]), torch.inf)
    levels = torch.cat([bound, logits.sort(dim=0, descending=True).values, -bound])
    count = y.sum(dim=0, keepdim=True)
    above, below = levels.gather(0, count)[0], levels.gather(0, count + 1)[0]
    return (above + below) / 2


@hookimpl
def register_judges() -> Sequence[type[Judge]]:
    """The judge of attributes."""
    return [Attributes]
