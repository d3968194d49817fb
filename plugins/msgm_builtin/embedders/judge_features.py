"""The judge's own features as an embedding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msgm_bench import Embedder, Judge, MsgmBenchError, hookimpl


class JudgeFeatures(Embedder):
    """Penultimate features of the judge: without download, comparable with themselves only."""

    name = "judge"

    def missing_weights(self, judge: Judge) -> str | None:
        """Reason where the judge has no features, or None."""
        has_features = type(judge).features is not Judge.features
        return None if has_features else f"the judge {judge.name!r} has no features"

    def load(self, judge: Judge, device: torch.device) -> None:
        """Store the judge."""
        self.judge = judge

    def embed(self, x: Tensor) -> Tensor:
        """Features ``[N, F]``.

        Raises:
            MsgmBenchError: The judge returns no features.
        """
        features = self.judge.features(x)
        if features is None:
            raise MsgmBenchError(f"the judge {self.judge.name!r} has no features")
        return features


@hookimpl
def register_embedders() -> Sequence[type[Embedder]]:
    """The judge's features."""
    return [JudgeFeatures]
