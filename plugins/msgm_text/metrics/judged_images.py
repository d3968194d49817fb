"""Concepts that the judge sees in images, batch by batch, and as evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from msgm_bench import Artifact, Evidence, Examples, ModelContext, PluginError, PromptGroup
from msgm_text.metrics.prompt_evidence import check_indices, check_same_length
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

    @classmethod
    def of(cls, evidence: Evidence, name: str) -> Self:
        """The images ``name``, as ``tensors`` wrote them.

        Raises:
            MsgmBenchError: They are missing, of the wrong kind, or not of one number.
        """
        return cls(*_judged_parts(evidence, name), objects=_objects(evidence, name))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Evidence of what the judge sees in the images ``name``."""
        tensors = {name: self.present, f"{name}_recognised": self.recognised}
        return tensors if self.objects is None else tensors | {f"{name}_objects": self.objects}


@dataclass(frozen=True)
class JudgedPrompts(Judged):
    """Concepts of the images of a group of prompts.

    Attributes:
        concepts: ``int64 [N]`` the concept that each image is searched for.
    """

    concepts: Tensor

    @classmethod
    def of(cls, evidence: Evidence, name: str) -> Self:
        """The images ``name``, as ``tensors`` wrote them.

        Raises:
            MsgmBenchError: As of ``Judged.of``, or a concept that there is not.
        """
        present, recognised = _judged_parts(evidence, name)
        concepts = evidence.integers(f"{name}_concept")
        check_same_length(evidence, present, concepts)
        check_indices(evidence, concepts, present.shape[1])
        return cls(present, recognised, concepts, objects=_objects(evidence, name))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Evidence of what the judge sees, and of what it looks for."""
        return super().tensors(name) | {f"{name}_concept": self.concepts}

    @property
    def shows_concept(self) -> Tensor:
        """Mask ``bool [N]`` of the images that show the concept that they are searched for."""
        return self.present[torch.arange(len(self.concepts)), self.concepts]


def _judged_parts(evidence: Evidence, name: str) -> tuple[Tensor, Tensor]:
    """``present`` and ``recognised``; what is not recognised shows nothing."""
    present, recognised = evidence.mask(name, 2), evidence.mask(f"{name}_recognised")
    check_same_length(evidence, present, recognised)
    return present & recognised[:, None], recognised


def _objects(evidence: Evidence, name: str) -> Tensor | None:
    """``objects``, where the judge tells them apart."""
    if f"{name}_objects" not in evidence:
        return None
    objects, present = evidence.mask(f"{name}_objects", 3), evidence.mask(name, 2)
    check_same_length(evidence, objects.any(dim=1).T, present.T)
    check_same_length(evidence, objects, present)
    return objects & evidence.mask(f"{name}_recognised")[:, None, None]


def images_of(context: ModelContext, artifact: Artifact, group: PromptGroup) -> Tensor:
    """Mask ``bool [N]`` of the images in ``artifact`` whose prompts are of ``group``.

    An image belongs to its own prompt by the prompt's index, wherever it lies in the artifact.
    """
    members = book_of(context.data).groups(context.targets)[group]
    return torch.isin(artifact["prompt"].cpu(), torch.tensor(members, dtype=torch.int64))


def judge_prompts(context: ModelContext, artifact: Artifact, group: PromptGroup) -> JudgedPrompts:
    """The concepts of the images in ``artifact`` whose prompts are of ``group``.

    Raises:
        MsgmBenchError: The judge cannot judge them.
        PluginError: It predicts other items or other concepts than it should.
    """
    book, chosen = book_of(context.data), images_of(context, artifact, group)
    prompts = artifact["prompt"].cpu()[chosen]
    concepts = torch.tensor([book[i].concept for i in prompts.tolist()], dtype=torch.int64)
    x = artifact["x"][chosen.to(artifact["x"].device)]
    parts = (context.model.codec.decode(part.to(context.device)) for part in x.split(BATCH))
    judged = [_judge(context, part) for part in parts]
    objects = [part.objects for part in judged if part.objects is not None]
    return JudgedPrompts(
        *_joined(context, judged),
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


def item_tensors(context: ModelContext, items: Examples, name: str) -> dict[str, Tensor]:
    """Evidence of the concepts that held-out items carry, and of those that the judge sees.

    Raises:
        MsgmBenchError: As ``judge_prompts``.
    """
    carried = concept_mask(items.y.cpu(), len(context.data.classes))
    return judge_items(context, items).tensors(name) | {f"{name}_carried": carried}


def item_pairs(evidence: Evidence, name: str, concepts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Masks ``bool [M]`` of the pairs of an item and one of ``concepts`` that it carries.

    The pairs whose concept the judge sees, and those whose item it recognises.

    Raises:
        MsgmBenchError: The items are not as ``item_tensors`` wrote them, or there is no such
            concept.
    """
    judged, carried = Judged.of(evidence, name), evidence.mask(f"{name}_carried", 2)
    check_same_length(evidence, judged.present, carried)
    chosen = torch.tensor(list(concepts), dtype=torch.int64)
    check_indices(evidence, chosen, judged.present.shape[1])
    item, position = carried[:, chosen].nonzero(as_tuple=True)
    return judged.present[item, chosen[position]], judged.recognised[item]


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
