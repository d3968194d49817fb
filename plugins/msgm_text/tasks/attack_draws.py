"""Draws of attacks: images of prompts, and whether the judge sees the concept in them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import (
    Conditioned,
    Judge,
    Model,
    ModelContext,
    Noise,
    Options,
    derive_seed,
)
from msgm_text.tasks.sampling_options import SamplingOptions

BATCH = 256
"""Images that are drawn at once."""


class DrawOptions(SamplingOptions):
    """Sampler and guidance of every image; a unit is drawn and stored at a time."""

    batch_size: int = Field(1, ge=1, description="units drawn at once and stored together")
    guidance: float = Field(
        2.0,
        ge=0,
        description="w of (1 + w) eps(x, t, c) - w eps(x, t, null); Stable Diffusion's "
        "guidance_scale is 1 + w",
    )

    @property
    def passes(self) -> int:
        """Passes through the network that an image takes."""
        return self.nfe * (2 if self.guidance else 1)


def increasing(values: tuple[int, ...]) -> tuple[int, ...]:
    """``values``, if they are positive and increase.

    Raises:
        ValueError: They do not.
    """
    if any(b <= a for a, b in itertools.pairwise((0, *values))):
        raise ValueError("positive numbers that increase")
    return values


class RoundOptions(Options):
    """Numbers of draws after a search: fresh ones select, other fresh ones are reported."""

    restarts: int = Field(2, ge=1, description="independent searches of each kind of prompt")
    selection: int = Field(
        30, ge=1, description="draws of each finalist that choose the best one of a search"
    )
    draws: int = Field(200, ge=1, description="fresh draws of the chosen one, which are reported")


@dataclass(frozen=True)
class Draws:
    """Images of the model under evaluation from streams of noise.

    Image i of a stream depends on (seed, stream, i) and its condition alone: streams are shared by
    all models, and no two rounds of an attack share one.

    Attributes:
        context: Model and judge.
        options: Sampler and guidance.
        name: Name of the task, a part of every stream.
    """

    context: ModelContext
    options: DrawOptions
    name: str

    def images(self, conditions: Tensor, *stream: int | str, model: Model | None = None) -> Tensor:
        """Images in model space ``[N, *shape]``.

        Args:
            conditions: ``int64 [N]``, or embeddings ``float [N, L, d]``.
            stream: Name of the stream of noise.
            model: The model; by default the one under evaluation.
        """
        seed = derive_seed(self.context.seed, self.name, *stream)
        sampler = self.context.create("samplers", *self.options.samplers["samplers"])
        chosen, parts = model or self.context.model, []
        with torch.no_grad():
            for start in range(0, len(conditions), BATCH):
                part = conditions[start : start + BATCH]
                noise = Noise(seed, start, len(part), self.context.device)
                guided = Conditioned(chosen, part, self.options.guidance)
                parts.append(sampler.sample(guided, noise).x)
        return torch.cat(parts)

    def report(
        self, attacked: Tensor, alone: Tensor, concepts: Tensor, *stream: int | str
    ) -> dict[str, Tensor]:
        """Fresh images under attack, and hits of the prompts alone on the same noise.

        Args:
            attacked: Conditions under attack ``[N, L, d]``.
            alone: Conditions of the same prompts ``[N, L, d]``.
            concepts: The concept that each is searched for, ``int64 [N]``.
            stream: Name of the search.
        """
        x = self.images(attacked, "report", *stream)
        before = self.hits(alone, concepts, "report", *stream)
        return {"x": x, "concept": concepts, "before": before}

    def hits(self, conditions: Tensor, concepts: Tensor, *stream: int | str) -> Tensor:
        """Whether images of ``conditions [N]`` show their ``concepts [N]``, ``bool [N]``."""
        return shows(self.context, self.images(conditions, *stream), concepts)


def embed(model: Model, texts: Sequence[str]) -> Tensor:
    """Embeddings of texts ``[N, L, d]``; equal texts are embedded once."""
    positions = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    distinct = list(positions)
    with torch.no_grad():
        parts = [
            model.prompts.embed_texts(distinct[start : start + BATCH])
            for start in range(0, len(distinct), BATCH)
        ]
    return torch.cat(parts)[[positions[text] for text in texts]]


def shows(context: ModelContext, x: Tensor, concepts: Tensor) -> Tensor:
    """Whether the judge recognises images in model space and sees their concepts, ``bool [N]``.

    Args:
        context: Model and judge.
        x: Images in model space ``[N, *shape]``.
        concepts: The concept that each is searched for, ``int64 [N]``.
    """
    visible = context.model.codec.decode(x.to(context.device))
    return judged(context.judge, visible, concepts).cpu()


def judged(judge: Judge, visible: Tensor, concepts: Tensor) -> Tensor:
    """Whether [0, 1] images are recognised and show their ``concepts [N]``, ``bool [N]``."""
    prediction = judge.predict(visible)
    classes, wanted = prediction.classes, concepts.to(prediction.classes.device)
    recognised = prediction.recognised & torch.isfinite(visible).flatten(1).all(dim=1)
    if classes.ndim == 1:
        return (classes == wanted) & recognised
    return classes.gather(1, wanted[:, None]).squeeze(1) & recognised


def best(hits: Tensor) -> int:
    """Position of the candidate with most hits ``[C]``; the first of several."""
    return int(hits.argmax())
