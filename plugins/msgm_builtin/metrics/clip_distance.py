"""Distance between restored and original images in CLIP's embedding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from msgm_bench import (
    Artifact,
    Evidence,
    Interval,
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
from msgm_builtin.metrics.embedding import (
    all_features,
    create_embedder,
    load_embedder,
    row_or_reason,
)
from msgm_builtin.tasks.restoration import ImagePairs, retain_pairs, task_protocol


class ClipDistanceOptions(Options):
    """The distance, and options of the embedder."""

    distance: Literal["l2", "cosine"] = Field("l2", description="distance of two embeddings")
    embedder_options: Mapping[str, Any] = Field({}, description="options of the embedder")


class ClipDistance(Metric[ClipDistanceOptions]):
    """Mean distance |e(x) - e(x0)| of CLIP embeddings of restored and original retain images.

    ``l2`` is Euclidean on embeddings that are not normalised, ``cosine`` is 1 - cos. Low is good;
    it is not the CLIPScore of text-to-image work, which goes up.
    """

    name = "clip"
    citation = "MSGM, arXiv:2412.07229, tables 3 to 5 (CLIP embedding distance)"
    tasks = ("inpainting", "reconstruction")
    protocols = ("clip/",)
    latest_version = 2

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The embedder."""
        return {"embedders": ("clip", dict(self.options.embedder_options))}

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The distance, the embedder and the task."""
        embedder = create_embedder(context, *self.uses()["embedders"]).protocol()
        return task_protocol(f"clip/{self.options.distance}", context, task, embedder=embedder)

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """One row, null with a reason where there is no embedder."""
        pair = retain_pairs(context, task, artifact)
        fields = row_fields(task.name, self.protocol(context, task).id, len(pair.restored))

        def mean_distance() -> Interval:
            return mean_interval(self.distances(context, pair).numpy())

        return [row_or_reason(mean_distance, **fields)]

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """The distance of each pair, infinite where it has none; nothing without an embedder."""
        try:
            distances = self.distances(context, retain_pairs(context, task, artifact))
        except MsgmBenchError:
            return {}
        return {"distances": distances.nan_to_num(math.inf, math.inf)}

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The row of ``measure`` from the distance of each pair."""
        distances = evidence.numbers("distances")
        fields = row_fields(evidence.task, evidence.protocol, len(distances))
        return [row_or_reason(lambda: mean_interval(distances.numpy()), **fields)]

    def distances(self, context: ModelContext, pair: ImagePairs) -> Tensor:
        """Distance of each restored image to its original, float64 ``[N]`` on the CPU.

        Raises:
            MsgmBenchError: There is no embedder.
        """
        embedder = create_embedder(context, *self.uses()["embedders"])
        load_embedder(embedder, context)
        restored, original = (
            all_features(embedder, x, context.device).double()
            for x in (pair.restored, pair.original)
        )
        if self.options.distance == "cosine":
            cosine: Tensor = F.cosine_similarity(restored, original)
            return 1 - cosine
        euclidean: Tensor = (restored - original).norm(dim=1)
        return euclidean


def row_fields(task: str, protocol: str, n: int) -> dict[str, Any]:
    """Fields of the row."""
    fields = {"task": task, "metric": ClipDistance.name, "split": "retain", "protocol": protocol}
    return fields | {"unit": "1", "n": n, "direction": "down"}


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """The distance."""
    return [ClipDistance]
