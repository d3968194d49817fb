"""The exact judge of a dataset whose density is known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import Data, IncompatibleError, Judge, JudgeOptions, Prediction, hookimpl


class BayesOptions(JudgeOptions):
    """The share of true points that are rejected; no gate, since no judge is more accurate."""

    gate: float = Field(0.0, ge=0, le=1, exclude=True, description="least accuracy")
    rejection_rate: float = Field(0.01, gt=0, lt=1, description="share of true points to reject")


class Bayes(Judge[BayesOptions]):
    """Bayes' rule under the dataset's exact density: the best judge there can be.

    A point is recognised unless a share of less than ``rejection_rate`` of its nearest class's
    true points is less likely than it.
    """

    name = "bayes"

    def check(self, data: Data) -> None:
        """Refuse data without an exact density.

        Raises:
            IncompatibleError: The density is not known.
        """
        if data.density is None:
            raise IncompatibleError(
                "the judge 'bayes' needs a dataset with an exact density", "the judge 'classifier'"
            )

    def fit(self, data: Data, seed: int, device: torch.device) -> None:
        """Read the density, and measure the accuracy on held-out points."""
        self.restore(data, {}, device)
        prediction = self.predict(data.test.x)
        correct = (prediction.classes == data.test.y).double().mean()
        self.report = {"accuracy": float(correct), "items": len(data.test)}

    def restore(self, data: Data, state: object, device: torch.device) -> None:
        """Read the density."""
        self.check(data)
        assert data.density is not None
        self.density = data.density

    def predict(self, x: Tensor) -> Prediction:
        """The most likely class of points ``[N, D]``."""
        recognised = self.density.typicality(x) >= self.options.rejection_rate
        return Prediction(self.density.posterior(x).argmax(dim=1), recognised)


@hookimpl
def register_judges() -> Sequence[type[Judge]]:
    """Bayes' rule."""
    return [Bayes]
