"""Distance between restored and original images in CLIP's embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from msgm_bench import (
    Artifact,
    Embedder,
    Metric,
    MetricProtocol,
    ModelContext,
    MsgmBenchError,
    Options,
    Row,
    Task,
    hookimpl,
    mean_interval,
)
from msgm_builtin.metrics.fid import features
from msgm_builtin.tasks.restoration import Pair, protocol_of, retained


class ClipDistanceOptions(Options):
    """Which distance, and what the embedder is told."""

    distance: Literal["l2", "cosine"] = Field("l2", description="between two embeddings")
    embedder_options: Mapping[str, Any] = Field({}, description="options of the embedder")


class ClipDistance(Metric[ClipDistanceOptions]):
    """Mean distance |e(x) - e(x0)| of CLIP embeddings of restored and original retain images.

    ``l2`` is Euclidean on embeddings that are not normalised, ``cosine`` is 1 - cos. Low is good;
    it is not the CLIPScore of text-to-image work, which goes up.
    """

    name = "clip"
    citation = "MSGM, arXiv:2412.07229, tables 3 to 5 (CLIP embedding distance)"
    tasks = ("inpainting", "reconstruction")

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The embedder."""
        return {"embedders": ("clip", dict(self.options.embedder_options))}

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The distance, the embedder and the task."""
        told = self._embedder(context).protocol()
        return protocol_of(f"clip/{self.options.distance}", context, task, embedder=told)

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """One row, null with a reason where there is no embedder."""
        pair = retained(context, task, artifact)
        fields: dict[str, Any] = {
            "task": task.name,
            "metric": self.name,
            "split": pair.split,
            "protocol": self.protocol(context, task).id,
            "unit": "1",
            "n": len(pair.restored),
            "direction": "down",
        }
        try:
            values = self.distances(context, pair)
            return [Row.of(mean_interval(values.numpy()), **fields)]
        except MsgmBenchError as error:
            return [Row(value=None, reason=" ".join(str(error).split()), **fields)]

    def distances(self, context: ModelContext, pair: Pair) -> Tensor:
        """One distance an image, on the CPU.

        Raises:
            MsgmBenchError: No embedder.
        """
        embedder = self._embedder(context)
        missing = embedder.missing(context.judge)
        if missing is not None:
            raise MsgmBenchError(missing)
        embedder.load(context.judge, context.device)
        sets = (pair.restored, pair.original)
        a, b = (torch.cat([*features(embedder, x, context.device)]).cpu().double() for x in sets)
        if self.options.distance == "cosine":
            cosine: Tensor = F.cosine_similarity(a, b)
            return 1 - cosine
        euclidean: Tensor = (a - b).norm(dim=1)
        return euclidean

    def _embedder(self, context: ModelContext) -> Embedder:
        embedder: Embedder = context.create("embedders", *self.uses()["embedders"])
        return embedder


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """The distance."""
    return [ClipDistance]
