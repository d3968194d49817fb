"""Frechet distances between sets of images, in the features of an embedder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import (
    Artifact,
    Embedder,
    EvalContext,
    Evidence,
    Interval,
    MeasuredRows,
    Metric,
    MetricColumn,
    MetricProtocol,
    Model,
    ModelContext,
    MsgmBenchError,
    Options,
    Row,
    Task,
    hookimpl,
)
from msgm_builtin.metrics.embedding import (
    BATCH,
    all_features,
    create_embedder,
    row_or_reason,
)
from msgm_builtin.metrics.frechet import Moments, frechet_interval
from msgm_builtin.metrics.frechet_evidence import (
    frechet_evidence,
    frechet_tolerance,
    recomputed_interval,
)
from msgm_builtin.metrics.row_checks import out_of_range
from msgm_builtin.tasks.class_generation import retain_mask
from msgm_builtin.tasks.restoration import retain_pairs, task_protocol

GENERATION_TASKS = ("generation", "class_generation")  # their samples have no originals


class FrechetOptions(Options):
    """Options of the embedder."""

    embedder_options: Mapping[str, Any] = Field({}, description="options of the embedder")


class Frechet(Metric[FrechetOptions]):
    """A Frechet distance in the features of an embedder, which has a class and protocol of its own.

    Samples (of a class-conditional model those of retained classes) are compared with D_g's
    training items, restored images with their originals in D_g. The interval (infinitesimal
    jackknife) is for the expected distance at this number of images, not for that of infinitely
    many: samples vary and the training items do not, or pairs of original and restored image
    vary together.
    """

    citation = "Heusel et al. 2017, arXiv:1706.08500"
    tasks: ClassVar[tuple[str, ...]] = (*GENERATION_TASKS, "inpainting", "reconstruction")
    embedder: ClassVar[str]
    latest_version = 2

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Negative distances."""
        return out_of_range(rows, 0.0, math.inf)

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The embedder."""
        return {"embedders": (self.embedder, dict(self.options.embedder_options))}

    def skip(self, context: EvalContext, model: Model) -> str | None:
        """Skip points: the features are those of images."""
        return None if len(model.shape) == 3 else "the Frechet distance is for images"

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The embedder, the reference set and the task."""
        embedder = self._embedder(context)
        settings: dict[str, Any] = {"embedder": embedder.protocol()}
        generated = task.name in GENERATION_TASKS
        settings["reference"] = "training items of D_g" if generated else "originals"
        vary = "samples" if generated else "pairs"
        settings["interval"] = f"expected value at this n; {vary} vary"
        if self.embedder == "judge":
            settings["judge"] = dict(context.judge_id)
        name = f"fid/{self.embedder}"
        if task.name == "class_generation":
            name += "/retain-classes"
        return task_protocol(name, context, task, **settings)

    def needs_reference(self, context: EvalContext) -> bool:
        """Whether D_g's training items have moments: they are images, and there is an embedder."""
        missing = self._embedder(context).missing_weights(context.judge)
        return len(context.data.shape) == 3 and missing is None

    def compute_reference(self, context: EvalContext) -> dict[str, Tensor]:
        """Moments of D_g's training items; empty where the embedder cannot be loaded."""
        embedder = self._embedder(context)
        try:
            embedder.load(context.judge, context.device)
        except MsgmBenchError:
            return {}  # ``measure`` meets the same error, and its row carries the reason
        retain, _ = context.data.split(context.data.train, context.targets)
        assert context.data.levels is not None
        features = (
            embedder.embed(((x + 0.5) / context.data.levels).to(context.device))
            for x in retain.x.split(BATCH)
        )
        moments = Moments.of(features)
        n = torch.tensor(moments.n)
        return {"mean": moments.mean, "covariance": moments.covariance, "n": n}

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """One row, null with a reason where there is no embedder or too few items."""
        fields = self.row_fields(task.name) | {
            "task": task.name,
            "protocol": self.protocol(context, task).id,
            "n": self.count(context, task, artifact),
        }

        def interval() -> Interval:
            return frechet_interval(*self.features(context, task, artifact))

        return [row_or_reason(interval, **fields)]

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """Features, or their moments where those are large; nothing where there is no distance."""
        try:
            return frechet_evidence(*self.features(context, task, artifact), full)
        except MsgmBenchError:
            return {}

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The row of ``measure`` from features or moments."""
        interval, n = recomputed_interval(evidence)
        return [Row.of(interval, n=n, **evidence.common, **cls.row_fields(evidence.task))]

    @classmethod
    def tolerance(cls, evidence: Evidence) -> float:
        """Rounding of the eigenvalues, and of moments that of float32."""
        return frechet_tolerance(evidence)

    @classmethod
    def row_fields(cls, task: str) -> dict[str, Any]:
        """Fields of the row of a task."""
        split = "samples" if task in GENERATION_TASKS else "retain"
        return {"metric": "fid", "split": split, "unit": "1", "direction": "down"}

    def count(self, context: ModelContext, task: Task, artifact: Artifact) -> int:
        """Number of images of the artifact."""
        return len(self.images(context, task, artifact)[0])

    def images(
        self, context: ModelContext, task: Task, artifact: Artifact
    ) -> tuple[Tensor, Tensor | None]:
        """[0, 1] images ``[N, C, H, W]`` of the artifact, and their originals if they have any."""
        if task.name not in GENERATION_TASKS:
            pair = retain_pairs(context, task, artifact)
            return pair.restored, pair.original
        x = context.model.codec.decode(artifact["x"])
        return x[retain_mask(context, artifact)] if "y" in artifact else x, None

    def features(
        self, context: ModelContext, task: Task, artifact: Artifact
    ) -> tuple[Tensor, Tensor | Moments]:
        """Features ``[N, F]`` of the images on the CPU, and those of originals or D_g's moments.

        Raises:
            MsgmBenchError: No embedder, or images that are not finite.
        """
        x, original = self.images(context, task, artifact)
        embedder = self._embedder(context)
        missing = embedder.missing_weights(context.judge)
        if missing is not None:
            raise MsgmBenchError(missing)
        broken = int((~torch.isfinite(x).flatten(1).all(dim=1)).sum())
        if broken:
            raise MsgmBenchError(f"{broken} of {len(x)} images are not finite")
        embedder.load(context.judge, context.device)
        features = all_features(embedder, x, context.device)
        if original is not None:
            return features, all_features(embedder, original, context.device)
        return features, reference_moments(context)

    def _embedder(self, context: EvalContext) -> Embedder:
        return create_embedder(context, *self.uses()["embedders"])


def reference_moments(context: ModelContext) -> Moments:
    """The moments of D_g's training items, as ``compute_reference`` stored them."""
    stored = context.reference
    return Moments(stored["mean"], stored["covariance"], int(stored["n"]))


class JudgeFID(Frechet):
    """Frechet distance in the judge's features: no download, comparable with itself only."""

    name = "fid-judge"
    embedder = "judge"
    protocols = ("fid/judge",)
    columns = (
        MetricColumn(
            metric="fid",
            protocol="fid/judge/retain-classes@1",
            label="FID",
            direction="down",
            track="class",
            position=40,
        ),
        MetricColumn(
            metric="fid",
            protocol="fid/judge@1",
            label="FID (judge)",
            direction="down",
            track="unconditional",
            position=5,
            in_tables=False,
        ),
    )


class InceptionFID(Frechet):
    """Frechet Inception distance with the weights of the TensorFlow original of 2015."""

    name = "fid-inception"
    embedder = "inception-2015"
    protocols = ("fid/inception-2015",)


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """One for each embedder."""
    return [JudgeFID, InceptionFID]
