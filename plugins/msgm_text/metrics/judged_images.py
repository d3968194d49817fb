"""Concepts that the judge sees in images, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from msgm_bench import Artifact, Examples, ModelContext, PluginError, PromptGroup
from msgm_text.tasks.prompt_sets import book_of

BATCH = 100  # images that are decoded and judged at once


@dataclass(frozen=True)
class Judged:
    """Concepts of N images, on the CPU.

    Attributes:
        present: ``bool [N, A]`` the concepts of an image that is recognised, none of another.
        recognised: ``bool [N]`` whether the judge recognises the image; one that is not finite it
            does not.
        objects: ``bool [N, O, A]`` concepts of each object in an image that is recognised; None of
            judges that tell no objects apart.
    """

    present: Tensor
    recognised: Tensor
    objects: Tensor | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class JudgedPrompts(Judged):
    """Concepts of the images of a group of prompts.

    Attributes:
        prompts: ``int64 [N]`` index of each image's prompt.
        concepts: ``int64 [N]`` the concept that each image is searched for.
    """

    prompts: Tensor
    concepts: Tensor

    @property
    def shows_concept(self) -> Tensor:
        """Mask ``bool [N]`` of the images that show the concept that they are searched for."""
        return self.present[torch.arange(len(self.concepts)), self.concepts]


def judge_prompts(context: ModelContext, artifact: Artifact, group: PromptGroup) -> JudgedPrompts:
    """The concepts of the images in ``artifact`` whose prompts are of ``group``.

    An image belongs to its own prompt by the prompt's index, wherever it lies in the artifact.

    Raises:
        MsgmBenchError: The judge cannot judge them.
        PluginError: It predicts other items or other concepts than it should.
    """
    book = book_of(context.data)
    members = torch.tensor(book.groups(context.targets)[group], dtype=torch.int64)
    chosen = torch.isin(artifact["prompt"].cpu(), members)
    prompts = artifact["prompt"].cpu()[chosen]
    concepts = torch.tensor([book[i].concept for i in prompts.tolist()], dtype=torch.int64)
    x = artifact["x"][chosen.to(artifact["x"].device)]
    parts = (context.model.codec.decode(part.to(context.device)) for part in x.split(BATCH))
    judged = [_judge(context, part) for part in parts]
    objects = [part.objects for part in judged if part.objects is not None]
    return JudgedPrompts(
        *_joined(context, judged),
        prompts,
        concepts,
        objects=torch.cat(objects) if objects else None,
    )


def judge_items(context: ModelContext, items: Examples) -> Judged:
    """The concepts of held-out items.

    Raises:
        MsgmBenchError: As ``judge_prompts``.
    """
    parts = (items[start : start + BATCH] for start in range(0, len(items), BATCH))
    return Judged(*_joined(context, [_judge(context, context.visible(part)) for part in parts]))


def judge_pairs(
    context: ModelContext, items: Examples, concepts: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Masks ``bool [M]`` of the pairs of an item and one of ``concepts`` that it carries.

    The pairs whose concept the judge sees, and those whose item it recognises.

    Raises:
        MsgmBenchError: As ``judge_prompts``.
    """
    judged = judge_items(context, items)
    y = concept_mask(items.y.cpu(), len(context.data.classes))
    item, position = y[:, list(concepts)].nonzero(as_tuple=True)
    chosen = torch.tensor(list(concepts), dtype=torch.int64)[position]
    return judged.present[item, chosen], judged.recognised[item]


def concept_mask(labels: Tensor, A: int) -> Tensor:
    """Labels as concepts ``bool [N, A]``: classes ``int64 [N]``, or what they are already.

    Raises:
        PluginError: A class is not in 0 .. A-1.
    """
    if labels.ndim != 1 or labels.dtype == torch.bool:
        return labels
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < A:
        raise PluginError(
            f"classes from {int(labels.min())} to {int(labels.max())}", f"classes 0 to {A - 1}"
        )
    return F.one_hot(labels, A).bool()


def _judge(context: ModelContext, x: Tensor) -> Judged:
    """The concepts of [0, 1] images ``[N, C, H, W]``."""
    prediction, A = context.judge.predict(x), len(context.data.classes)
    seen = concept_mask(prediction.classes.cpu(), A)
    sound = prediction.recognised.cpu()
    if seen.shape != (len(x), A) or sound.shape != (len(x),) or sound.dtype != torch.bool:
        raise PluginError(
            f"the judge {context.judge.name!r} predicts classes {tuple(seen.shape)} and "
            f"recognised {tuple(sound.shape)} for {len(x)} images and {A} concepts",
            f"classes int64 [{len(x)}] or bool [{len(x)}, {A}], recognised bool [{len(x)}]",
        )
    sound = sound & torch.isfinite(x).flatten(1).all(dim=1).cpu()
    objects = prediction.objects
    if objects is not None:
        if (len(objects), *objects.shape[2:]) != (len(x), A) or objects.dtype != torch.bool:
            raise PluginError(
                f"the judge {context.judge.name!r} predicts objects {tuple(objects.shape)} for "
                f"{len(x)} images and {A} concepts",
                f"objects bool [{len(x)}, O, {A}]",
            )
        objects = objects.cpu() & sound[:, None, None]
    return Judged(seen & sound[:, None], sound, objects=objects)


def _joined(context: ModelContext, parts: Sequence[Judged]) -> tuple[Tensor, Tensor]:
    """``present`` and ``recognised`` of all parts, which may be none."""
    A = len(context.data.classes)
    empty = torch.zeros(0, A, dtype=torch.bool)
    present = torch.cat([empty, *(part.present for part in parts)])
    return present, torch.cat([empty.any(dim=1), *(part.recognised for part in parts)])
