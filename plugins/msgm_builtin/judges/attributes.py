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
    """Convolutional network that says of each attribute whether an image has it.

    One logit an attribute, and one for what is no image of the dataset: images under strong
    noise, shuffled pixels and uniform noise, of which no attribute is asked. An attribute is
    present above the logit at which, among real items that took no part in training, as many are
    judged to have it as do: a share of samples is then right on average where samples look like
    data, for rare attributes too. An item is recognised unless it is rejected, or looks less like
    an image than all but ``rejection_rate`` of those real items.
    """

    name = "attributes"
    criterion = BALANCED
    calibrated = ("threshold", "cuts")

    def suits(self, data: Data) -> None:
        """Attributes.

        Raises:
            IncompatibleError: Images with one class each.
        """
        if data.train.y.ndim != 2:
            raise IncompatibleError(
                "the judge 'attributes' on images with one class each",
                "images with attributes",
                "classes have a judge of their own: -j name=classifier",
            )

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Binary cross-entropies: of the attributes of real items, and of real against spoiled."""
        spoiled = (torch.arange(len(logits), device=logits.device) >= len(y)).float()
        told = F.binary_cross_entropy_with_logits(logits[: len(y), :-1], y.float())
        return told + F.binary_cross_entropy_with_logits(logits[:, -1], spoiled)

    def calibrate(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        """How much a real item looks like one at least, and the logit of each attribute."""
        threshold = torch.quantile(-logits[:, -1], self.options.rejection_rate)
        return {"threshold": threshold, "cuts": cuts(logits[:, :-1], y)}

    def predict(self, x: Tensor) -> Prediction:
        """``bool [N, A]`` attributes, and whether it is an image of the dataset."""
        finite = torch.isfinite(x).flatten(1).all(dim=1)
        logits = self.logits(x)
        known = (-logits[:, -1] >= self.calibration["threshold"]) & (logits[:, -1] < 0)
        return Prediction(logits[:, :-1] > self.calibration["cuts"], known & finite)


def cuts(logits: Tensor, y: Tensor) -> Tensor:
    """For each attribute, the logit above which there are as many items as have it.

    Args:
        logits: ``[N, A]``.
        y: ``bool [N, A]``.

    Returns:
        ``[A]``: half-way between two items, infinite where none or all have the attribute.
    """
    edge = logits.new_full((1, logits.shape[1]), torch.inf)
    ladder = torch.cat([edge, logits.sort(dim=0, descending=True).values, -edge])
    count = y.sum(dim=0, keepdim=True)
    above, below = ladder.gather(0, count)[0], ladder.gather(0, count + 1)[0]
    return (above + below) / 2


@hookimpl
def register_judges() -> Sequence[type[Judge]]:
    """The judge of attributes."""
    return [Attributes]
