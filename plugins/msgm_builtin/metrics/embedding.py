"""Features of images for metrics: an embedder that is ready, or the reason why it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from msgm_bench import Embedder, EvalContext, Interval, ModelContext, MsgmBenchError, Row

BATCH = 100  # images that an embedder sees at once


def create_embedder(context: EvalContext, name: str, options: Mapping[str, Any]) -> Embedder:
    """The embedder, without its weights."""
    embedder: Embedder = context.create("embedders", name, dict(options))
    return embedder


def load_embedder(embedder: Embedder, context: ModelContext) -> None:
    """Read the embedder's weights.

    Raises:
        MsgmBenchError: They are missing or damaged.
    """
    missing = embedder.missing_weights(context.judge)
    if missing is not None:
        raise MsgmBenchError(missing)
    embedder.load(context.judge, context.device)


def feature_batches(embedder: Embedder, x: Tensor, device: torch.device) -> Iterator[Tensor]:
    """Features of [0, 1] images ``[N, C, H, W]``, a batch at a time."""
    for batch in x.split(BATCH):
        yield embedder.embed(batch.to(device))


def all_features(embedder: Embedder, x: Tensor, device: torch.device) -> Tensor:
    """Features ``[N, F]`` of [0, 1] images ``[N, C, H, W]``, on the CPU."""
    return torch.cat([batch.cpu() for batch in feature_batches(embedder, x, device)])


def row_or_reason(interval: Callable[[], Interval], **fields: Any) -> Row:
    """The row of ``interval()``; null with the reason where it raises a ``MsgmBenchError``."""
    try:
        return Row.of(interval(), **fields)
    except MsgmBenchError as error:
        return Row(value=None, reason=" ".join(str(error).split()), **fields)
