"""CLIPScore of images and their prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from msgm_bench import (
    Artifact,
    Evidence,
    Interval,
    MeasuredRows,
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
from msgm_bench.storage import single_line
from msgm_builtin.embedders import clip_files
from msgm_builtin.metrics.embedding import BATCH, create_embedder, row_or_reason
from msgm_builtin.metrics.row_checks import out_of_range
from msgm_text.metrics.prompt_evidence import group_tensors, items_of_groups, storable
from msgm_text.metrics.prompt_metric import RETAINED
from msgm_text.tasks.prompt_sets import book_of

FIELDS = {"split": "samples", "unit": "1"}


class ClipScoreOptions(Options):
    """Options of the embedder."""

    embedder_options: Mapping[str, Any] = Field({}, description="options of the embedder 'clip'")


class ClipScore(Metric[ClipScoreOptions]):
    """CLIPScore max(E[100 cos(e(x), e(prompt))], 0) of prompts for retained concepts: high is good.

    As torchmetrics defines it, and without the factor 2.5 of Hessel et al. Companions:
    ``clip_score_GROUP`` of each group of prompts; that of prompts for the concepts to forget has
    no direction. Texts beyond CLIP's context are cut. Null with the reason where CLIP's weights
    are not here.
    """

    name = "clip_score"
    citation = "Hessel et al. 2021, arXiv:2104.08718; torchmetrics"
    tasks = ("prompt_generation",)
    protocols = ("clip_score/",)

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Scores that are no cosine."""
        return out_of_range(rows, 0.0, 100.0)

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The embedder."""
        return {"embedders": ("clip", dict(self.options.embedder_options))}

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The model, the prompts and the task."""
        settings = {
            "embedder": create_embedder(context, *self.uses()["embedders"]).protocol(),
            task.name: task.protocol(context),
            "prompts": book_of(context.data).digest,
            "data": context.data.protocol,
        }
        return MetricProtocol(name="clip_score/prompts", version=1, settings=settings)

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """Rows of retained prompts, then of each group; one that is null where CLIP is not here."""
        protocol = self.protocol(context, task)
        try:
            tensors = self.score_tensors(context, artifact)
        except MsgmBenchError as error:
            groups = book_of(context.data).groups(context.targets)
            members = torch.tensor([i for group in RETAINED for i in groups[group]])
            n = int(torch.isin(artifact["prompt"].cpu(), members).sum())
            fields: dict[str, Any] = {"task": task.name, "protocol": protocol.id, **FIELDS}
            reason = single_line(error)
            return [Row(metric=self.name, value=None, reason=reason, n=n, direction="up", **fields)]
        forget = tuple(context.data.classes[target] for target in context.targets)
        return self.recompute(Evidence(task.name, protocol.id, protocol.settings, forget, tensors))

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """Cosine of each image and its prompt, and its group; nothing where CLIP is not here."""
        try:
            return self.score_tensors(context, artifact)
        except MsgmBenchError:
            return {}

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The rows of ``measure`` from the cosine of each image."""
        cosines, rows = evidence.numbers("cosine"), []
        for suffix, chosen, is_retained in items_of_groups(evidence, RETAINED, len(cosines)):
            values = 100 * cosines[chosen]
            more = {"n": len(values), "direction": "up" if is_retained else "none", **FIELDS}
            rows.append(score_row(values, metric=f"{cls.name}{suffix}", **evidence.common, **more))
        return rows

    def score_tensors(self, context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
        """The evidence.

        Raises:
            StorageError: As of ``cosines``.
        """
        cosine = storable(self.cosines(context, artifact))
        return {"cosine": cosine} | group_tensors(context, artifact)

    def cosines(self, context: ModelContext, artifact: Artifact) -> Tensor:
        """cos(e(x), e(prompt)) of each image, float64 ``[N]``; NaN of one that is not finite.

        Raises:
            StorageError: CLIP's weights are not here, or damaged.
        """
        options = create_embedder(context, *self.uses()["embedders"]).options
        assert isinstance(options, clip_files.ClipOptions)
        clip = clip_files.load(options, context.device)
        texts = text_features(clip, book_of(context.data).texts, artifact["prompt"].cpu())
        parts = []
        for x, e in zip(artifact["x"].split(BATCH), texts.split(BATCH), strict=True):
            images = context.model.codec.decode(x.to(context.device))
            parts.append(F.cosine_similarity(clip.image_features(images).double().cpu(), e))
        return torch.cat(parts)


def score_row(values: Tensor, **fields: Any) -> Row:
    """The mean of ``values [N]``, at least 0, with Student's interval; null if not finite."""

    def score() -> Interval:
        mean = mean_interval(values.numpy())
        return Interval(*(max(0.0, end) for end in (mean.value, mean.low, mean.high)))

    return row_or_reason(score, **fields)


@torch.no_grad()
def text_features(clip: clip_files.Clip, texts: Sequence[str], index: Tensor) -> Tensor:
    """Embeddings ``float64 [N, E]`` of ``texts[index]``, on the CPU.

    Raises:
        StorageError: The model has a tokenizer of its own.
    """
    tokenizer, device = clip_files.tokenizer(clip), clip.mean.device
    used, inverse = index.unique(return_inverse=True)
    parts = [
        clip.network.encode_text(tokenizer([texts[i] for i in part.tolist()]).to(device))
        for part in used.split(BATCH)
    ]
    return torch.cat(parts).double().cpu()[inverse]


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """CLIPScore."""
    return [ClipScore]
