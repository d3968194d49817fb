"""Frechet distance of the images of retained prompts to the dataset's, and to the base's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from msgm_bench import (
    Artifact,
    EvalContext,
    Metric,
    MetricProtocol,
    Model,
    ModelContext,
    MsgmBenchError,
    Task,
    hookimpl,
)
from msgm_builtin.metrics.embedding import BATCH, create_embedder, load_embedder
from msgm_builtin.metrics.fid import Frechet, reference_moments
from msgm_builtin.metrics.frechet import Moments
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
    row_name: ClassVar[str] = "fid"
    other: ClassVar[str] = "training items of D_g"
    prompts: ClassVar[str] = "retained-prompts"

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The embedder, the prompts and the task."""
        vary = "pairs" if self.needs_base else "samples"
        settings: dict[str, Any] = {
            "embedder": create_embedder(context, *self.uses()["embedders"]).protocol(),
            "reference": self.other,
            "interval": f"expected value at this n; {vary} vary",
            task.name: task.protocol(context),
            "prompts": book_of(context.data).digest,
            "data": context.data.protocol,
        }
        if self.embedder == "judge":
            settings["judge"] = dict(context.judge_id)
        name = f"fid/{self.embedder}/{self.prompts}"
        return MetricProtocol(name=name, version=1, settings=settings)

    def needs_reference(self, context: EvalContext) -> bool:
        """Whether D_g's training items have moments: there are some, and an embedder."""
        return len(context.data.train) > 0 and super().needs_reference(context)

    @classmethod
    def row_fields(cls, task: str) -> dict[str, Any]:
        """Fields of the row."""
        return super().row_fields(task) | {"metric": cls.row_name, "split": "samples"}

    def count(self, context: ModelContext, task: Task, artifact: Artifact) -> int:
        """Number of images of retained prompts."""
        return int(retained(context, artifact).sum())

    def features(
        self, context: ModelContext, task: Task, artifact: Artifact
    ) -> tuple[Tensor, Tensor | Moments]:
        """Features ``[N, F]`` of the images of retained prompts, and D_g's moments.

        Raises:
            MsgmBenchError: No embedder, no items to compare with, or images that are not finite.
        """
        if not len(context.data.train):
            raise MsgmBenchError("the data hold no items to compare with")
        return self.prompt_features(context, artifact), reference_moments(context)

    def prompt_features(self, context: ModelContext, artifact: Artifact) -> Tensor:
        """Features ``[N, F]`` of the images of retained prompts, on the CPU.

        Raises:
            MsgmBenchError: There is no embedder, or an image is not finite.
        """
        embedder = create_embedder(context, *self.uses()["embedders"])
        load_embedder(embedder, context)
        parts = []
        for part in artifact["x"][retained(context, artifact)].split(BATCH):
            images = context.model.codec.decode(part.to(context.device))
            if not bool(torch.isfinite(images).all()):
                raise MsgmBenchError("images are not finite")
            parts.append(embedder.embed(images).cpu())
        return torch.cat(parts)


class PromptFrechetToBase(PromptFrechet):
    """Frechet distance of images of retained prompts to the base model's.

    Both are drawn from the same prompts and noise; the pairs vary together.
    """

    needs_base = True
    row_name = "fid_base"
    other = "images of the base model"
    prompts = "base"

    def needs_reference(self, context: EvalContext) -> bool:
        """False: the base's images are an artifact."""
        return False

    def skip(self, context: EvalContext, model: Model) -> str | None:
        """Skip where there is no embedder: the base need not draw."""
        embedder = create_embedder(context, *self.uses()["embedders"])
        return super().skip(context, model) or embedder.missing_weights(context.judge)

    def features(
        self, context: ModelContext, task: Task, artifact: Artifact
    ) -> tuple[Tensor, Tensor | Moments]:
        """Features ``[N, F]`` of the images of retained prompts, and of the base's.

        Raises:
            MsgmBenchError: The base drew other prompts, or as of ``prompt_features``.
        """
        base = context.base_artifact
        if not torch.equal(base["prompt"], artifact["prompt"]):
            raise MsgmBenchError("the base model drew images of other prompts")
        return self.prompt_features(context, artifact), self.prompt_features(context, base)


def retained(context: ModelContext, artifact: Artifact) -> Tensor:
    """Mask ``bool [N]`` of the images of neighbours' and unrelated prompts."""
    groups = book_of(context.data).groups(context.targets)
    members = torch.tensor([i for group in RETAINED for i in groups[group]])
    return torch.isin(artifact["prompt"], members)


class PromptJudgeFID(PromptFrechet):
    """Frechet distance in the judge's features: no download, comparable with itself only."""

    name = "fid-prompts-judge"
    embedder = "judge"


class PromptInceptionFID(PromptFrechet):
    """Frechet Inception distance with the weights of the TensorFlow original of 2015."""

    name = "fid-prompts-inception"
    embedder = "inception-2015"


class BaseJudgeFID(PromptFrechetToBase):
    """Frechet distance to the base's images of the same prompts, in the judge's features."""

    name = "fid-base-judge"
    embedder = "judge"


class BaseInceptionFID(PromptFrechetToBase):
    """Frechet Inception distance to the base's images of the same prompts."""

    name = "fid-base-inception"
    embedder = "inception-2015"


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """To the dataset and to the base, one for each embedder."""
    return [PromptJudgeFID, PromptInceptionFID, BaseJudgeFID, BaseInceptionFID]
