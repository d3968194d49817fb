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
from msgm_builtin.metrics.frechet import Moments, frechet_interval
from msgm_builtin.metrics.row_checks import out_of_range
from msgm_builtin.tasks.class_generation import kept
from msgm_builtin.tasks.restoration import protocol_of, retained

BATCH = 100  # images that an embedder sees at once
DRAWN = ("generation", "class_generation")  # tasks whose samples have no originals


def features(embedder: Embedder, x: Tensor, device: torch.device) -> Iterator[Tensor]:
    """Features of [0, 1] images ``[N, C, H, W]``, a batch at a time."""
    for part in x.split(BATCH):
        yield embedder.embed(part.to(device))


class FrechetOptions(Options):
    """What the embedder is told."""

    embedder_options: Mapping[str, Any] = Field({}, description="options of the embedder")


class Frechet(Metric[FrechetOptions]):
    """A Frechet distance; each embedder has a class and a protocol of its own.

    Samples are compared with D_g's training items (class-conditional ones without those of the
    forgotten classes), restored images with their originals in D_g. The interval (infinitesimal
    jackknife) is for the expected distance at this number of images, not for that of infinitely
    many: samples vary and the training items do not, or pairs of original and restored image
    vary together.
    """

    citation = "Heusel et al. 2017, arXiv:1706.08500"
    tasks = (*DRAWN, "inpainting", "reconstruction")
    embedder: ClassVar[str]

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Negative distances."""
        return out_of_range(rows, 0.0, math.inf)

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The embedder."""
        return {"embedders": (self.embedder, dict(self.options.embedder_options))}

    def skip(self, scene: EvalContext, model: Model) -> str | None:
        """It is for images."""
        return None if len(model.shape) == 3 else "the Frechet distance is for images"

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The embedder, the reference set and the task."""
        embedder = self._embedder(context)
        told: dict[str, Any] = {"embedder": embedder.protocol()}
        generated = task.name in DRAWN
        told["reference"] = "training items of D_g" if generated else "originals"
        told["interval"] = f"expected value at this n; {'samples' if generated else 'pairs'} vary"
        if self.embedder == "judge":
            told["judge"] = dict(context.judge_id)
        name = f"fid/{self.embedder}"
        if task.name == "class_generation":
            name += "/kept-classes"
        return protocol_of(name, context, task, **told)

    def needs_reference(self, scene: EvalContext) -> bool:
        """Images of D_g have moments wherever there is an embedder."""
        missing = self._embedder(scene).missing(scene.judge)
        return len(scene.data.shape) == 3 and missing is None

    def compute_reference(self, scene: EvalContext) -> dict[str, Tensor]:
        """Moments of D_g's training items; nothing where the embedder cannot be loaded."""
        embedder = self._embedder(scene)
        try:
            embedder.load(scene.judge, scene.device)
        except MsgmBenchError:
            return {}  # ``measure`` meets the same error, and says it
        retain, _ = scene.data.split(scene.data.train, scene.targets)
        assert scene.data.levels is not None
        parts = (
            embedder.embed(((x + 0.5) / scene.data.levels).to(scene.device))
            for x in retain.x.split(BATCH)
        )
        found = Moments.of(parts)
        n = torch.tensor(found.n)
        return {"mean": found.mean, "covariance": found.covariance, "n": n}

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """One row, null with a reason where there is no embedder or too few items."""
        generated, original = task.name in DRAWN, None
        if generated:
            x = context.model.codec.decode(artifact["x"])
            x = x[kept(context, artifact)] if "y" in artifact else x
        else:
            pair = retained(context, task, artifact)
            x, original = pair.restored, pair.original
        fields: dict[str, Any] = {
            "task": task.name,
            "metric": "fid",
            "split": "samples" if generated else "retain",
            "protocol": self.protocol(context, task).id,
            "unit": "1",
            "n": len(x),
            "direction": "down",
        }
        try:
            return [Row.of(self.distance(context, x, original), **fields)]
        except MsgmBenchError as error:
            return [Row(value=None, reason=" ".join(str(error).split()), **fields)]

    def distance(self, context: ModelContext, x: Tensor, original: Tensor | None) -> Interval:
        """The distance of ``x`` to ``original``, or to D_g's training items, and its interval.

        Raises:
            MsgmBenchError: No embedder, too few items, or items that are not finite.
        """
        embedder = self._embedder(context)
        missing = embedder.missing(context.judge)
        if missing is not None:
            raise MsgmBenchError(missing)
        broken = int((~torch.isfinite(x).flatten(1).all(dim=1)).sum())
        if broken:
            raise MsgmBenchError(f"{broken} of {len(x)} images are not finite")
        embedder.load(context.judge, context.device)
        if original is None:
            stored = context.reference
            fixed = Moments(stored["mean"], stored["covariance"], int(stored["n"]))
            return frechet_interval(self._features(embedder, x, context), fixed)
        sets = (self._features(embedder, part, context) for part in (x, original))
        return frechet_interval(*sets)

    def _features(self, embedder: Embedder, x: Tensor, context: ModelContext) -> Tensor:
        """All features ``[N, F]`` on the CPU."""
        return torch.cat([part.cpu() for part in features(embedder, x, context.device)])

    def _embedder(self, scene: EvalContext) -> Embedder:
        embedder: Embedder = scene.create("embedders", *self.uses()["embedders"])
        return embedder


class JudgeFID(Frechet):
    """Frechet distance in the judge's own features: always there, comparable with itself only."""

    name = "fid-judge"
    embedder = "judge"
    protocols = ("fid/judge",)
    columns = (
        MetricColumn(
            metric="fid",
            protocol="fid/judge/kept-classes@1",
            label="FID",
            direction="down",
            track="class",
            position=40,
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
