"""The exact judge of a dataset whose density is known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import Data, IncompatibleError, Judge, JudgeOptions, Prediction, hookimpl


class BayesOptions(JudgeOptions):
    """What counts as data; no judge is better, so that nothing is asked of its accuracy."""

    gate: float = Field(0.0, ge=0, le=1, exclude=True, description="least accuracy")
    rejection_rate: float = Field(0.01, gt=0, lt=1, description="share of true points given up")


class Bayes(Judge[BayesOptions]):
    """Bayes' rule under the dataset's exact density: the best judge there can be.

    A point is recognised unless a share of less than ``rejection_rate`` of its nearest class's
    true points is less likely than it.
    """

    name = "bayes"

    def check(self, data: Data) -> None:
        """The density must be known.

        Raises:
            IncompatibleError: It is not.
        """
        if data.density is None:
            raise IncompatibleError(
                "the judge 'bayes' needs a dataset with an exact density", "the judge 'classifier'"
            )

    def fit(self, data: Data, seed: int, device: torch.device) -> None:
        """Take the density, and measure the rule on the held-out points."""
        self.restore(data, {}, device)
        judged = self.predict(data.test.x)
        right = (judged.classes == data.test.y).double().mean()
        self.report = {"accuracy": float(right), "items": len(data.test)}

    def restore(self, data: Data, state: object, device: torch.device) -> None:
        """Take the density."""
        self.check(data)
        assert data.density is not None
        self.density = data.density

    def predict(self, x: Tensor) -> Prediction:
        """The most likely class of points ``[N, D]``."""
        recognised = self.density.typicality(x) >= self.options.rejection_rate
        return Prediction(self.density.posterior(x).argmax(dim=1), recognised)


@hookimpl
def register_judges() -> Sequence[type[Judge]]:
    """Bayes."""
    return [Bayes]
