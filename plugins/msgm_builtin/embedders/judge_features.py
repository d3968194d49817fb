"""The judge's own features as an embedding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msgm_bench import Embedder, Judge, MsgmBenchError, hookimpl


class JudgeFeatures(Embedder):
    """Penultimate features of the judge: there offline, and comparable with themselves only."""

    name = "judge"

    def missing(self, judge: Judge) -> str | None:
        """Some judges have none."""
        without = type(judge).features is Judge.features
        return f"the judge {judge.name!r} has no features" if without else None

    def load(self, judge: Judge, device: torch.device) -> None:
        """Take the judge."""
        self.judge = judge

    def embed(self, x: Tensor) -> Tensor:
        """Features ``[N, F]``.

        Raises:
            MsgmBenchError: The judge has none after all.
        """
        found = self.judge.features(x)
        if found is None:
            raise MsgmBenchError(f"the judge {self.judge.name!r} has no features")
        return found


@hookimpl
def register_embedders() -> Sequence[type[Embedder]]:
    """The judge's."""
    return [JudgeFeatures]
