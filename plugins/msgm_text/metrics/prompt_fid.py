"""Frechet distance of the images of retained prompts to the dataset's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from msgm_bench import (
    Artifact,
    EvalContext,
    Interval,
    Metric,
    MetricProtocol,
    ModelContext,
    MsgmBenchError,
    Row,
    Task,
    hookimpl,
)
from msgm_builtin.metrics.embedding import BATCH, create_embedder, load_embedder, row_or_reason
from msgm_builtin.metrics.fid import Frechet
from msgm_builtin.metrics.frechet import Moments, frechet_interval
from msgm_text.metrics.prompt_metric import RETAINED
from msgm_text.tasks.prompt_sets import book_of


class PromptFrechet(Frechet):
    """Frechet distance of images of retained prompts to D_g's training items.

    The prompts are those of neighbours and of other domains, not the dataset's captions: the
    distance holds the difference of the two mixtures, and is for comparing methods. The interval
    is as of images without prompts: samples vary and the training items do not. Rows are checked
    with those of ``fid-judge`` and ``fid-inception``, whose protocols' names begin alike.
    """

    tasks = ("prompt_generation",)

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The embedder, the prompts and the task."""
        settings: dict[str, Any] = {
            "embedder": create_embedder(context, *self.uses()["embedders"]).protocol(),
            "reference": "training items of D_g",
            "interval": "expected value at this n; samples vary",
            task.name: task.protocol(context),
            "prompts": book_of(context.data).digest,
            "data": context.data.protocol,
        }
        if self.embedder == "judge":
            settings["judge"] = dict(context.judge_id)
        name = f"fid/{self.embedder}/retained-prompts"
        return MetricProtocol(name=name, version=1, settings=settings)

    def needs_reference(self, context: EvalContext) -> bool:
        """Whether D_g's training items have moments: there are some, and an embedder."""
        return len(context.data.train) > 0 and super().needs_reference(context)

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """One row, null with a reason where there is no embedder or too few items."""
        groups = book_of(context.data).groups(context.targets)
        members = torch.tensor([i for group in RETAINED for i in groups[group]])
        x = artifact["x"][torch.isin(artifact["prompt"], members)]
        fields: dict[str, Any] = {
            "task": task.name,
            "metric": "fid",
            "split": "samples",
            "protocol": self.protocol(context, task).id,
            "unit": "1",
            "n": len(x),
            "direction": "down",
        }
        return [row_or_reason(lambda: self.distance_of(context, x), **fields)]

    def distance_of(self, context: ModelContext, x: Tensor) -> Interval:
        """The distance of images in model space ``x`` to D_g's training items.

        Raises:
            MsgmBenchError: No embedder, no or too few items, or items that are not finite.
        """
        if not len(context.data.train):
            raise MsgmBenchError("the data hold no items to compare with")
        embedder = create_embedder(context, *self.uses()["embedders"])
        load_embedder(embedder, context)
        parts = []
        for part in x.split(BATCH):
            images = context.model.codec.decode(part.to(context.device))
            if not bool(torch.isfinite(images).all()):
                raise MsgmBenchError("images are not finite")
            parts.append(embedder.embed(images).cpu())
        stored = context.reference
        moments = Moments(stored["mean"], stored["covariance"], int(stored["n"]))
        return frechet_interval(torch.cat(parts), moments)


class PromptJudgeFID(PromptFrechet):
    """Frechet distance in the judge's features: no download, comparable with itself only."""

    name = "fid-prompts-judge"
    embedder = "judge"


class PromptInceptionFID(PromptFrechet):
    """Frechet Inception distance with the weights of the TensorFlow original of 2015."""

    name = "fid-prompts-inception"
    embedder = "inception-2015"


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """One for each embedder."""
    return [PromptJudgeFID, PromptInceptionFID]
