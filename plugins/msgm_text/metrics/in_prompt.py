"""In-prompt accuracy: what a prompt asks for beside the concept to forget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from msgm_bench import Artifact, Metric, MetricColumn, ModelContext, Row, hookimpl
from msgm_text.metrics.judged_images import concept_mask, judge_items, judge_prompts
from msgm_text.metrics.prompt_metric import Fields, PromptMetric, sample_rows, share_row
from msgm_text.tasks.prompt_sets import book_of


class InPromptAccuracy(PromptMetric):
    """Share of the images of pairs that show all that they should beside D_f, in per cent.

    A pair's prompt names a concept to forget beside others; the image shows these where the judge
    recognises it and sees every concept of the prompt that is not to be forgotten. Companions:
    ``in_prompt_unrecognisable``, ``in_prompt:DOMAIN`` for the concepts of one domain alone,
    ``in_prompt_bound``, the share of the images in which one object has them all, of judges that
    tell objects apart, and the share of real held-out items of D_f with further concepts in which
    the judge sees all these (``in_prompt_clean``).
    """

    name = "in_prompt"
    citation = "Ren et al. 2025, arXiv:2406.14855 (Six-CD, in-prompt)"
    headline = "in_prompt"
    label = "in_prompt_accuracy"
    group = "pair"
    columns = (
        MetricColumn(
            metric="in_prompt",
            label="in prompt",
            digits=1,
            direction="up",
            track="text",
            position=30,
        ),
    )
    protocols = ("in_prompt_accuracy/prompts",)

    def rows(self, context: ModelContext, artifact: Artifact, fields: Fields) -> list[Row]:
        """The headline and its companions; null where pairs ask for nothing else."""
        book, A = book_of(context.data), len(context.data.classes)
        images = judge_prompts(context, artifact, self.group)
        wanted = torch.zeros(len(images.prompts), A, dtype=torch.bool)
        for row, i in zip(wanted, images.prompts.tolist(), strict=True):
            row[list(book[i].concepts)] = True
        wanted[:, list(context.targets)] = False
        more = wanted.any(dim=1)
        if not bool(more.any()):
            return self.null_rows("no pair asks for anything but the concepts to forget", fields)
        counted = shows_all(images.present, wanted)[more]
        rows = sample_rows("in_prompt", counted, images.recognised[more], fields)
        common = {"split": "samples", "direction": "up", **fields}
        if images.objects is not None:
            bound = shows_all(images.objects, wanted[:, None]).any(dim=1)[more]
            rows.append(share_row(bound, metric="in_prompt_bound", **common))
        for domain, members in retained_domains(context):
            part = wanted & members
            some = part.any(dim=1)
            if bool(some.any()) and not bool((part == wanted).all()):
                counted = shows_all(images.present, part)[some]
                rows.append(share_row(counted, metric=f"in_prompt:{domain}", **common))
        return [*rows, self.clean_row(context, fields)]

    def clean_row(self, context: ModelContext, fields: Fields) -> Row:
        """The share of real items of D_f in which the judge sees all that they keep."""
        wanted = concept_mask(context.forget.y.cpu(), len(context.data.classes)).clone()
        wanted[:, list(context.targets)] = False
        present = shows_all(judge_items(context, context.forget).present, wanted)
        more = wanted.any(dim=1)
        return share_row(present[more], metric="in_prompt_clean", split="forget", **fields)


def shows_all(present: Tensor, wanted: Tensor) -> Tensor:
    """Mask ``bool [...]`` of what shows all it should; both ``bool [..., A]``."""
    return (present | ~wanted).all(dim=-1)


def retained_domains(context: ModelContext) -> Iterator[tuple[str, Tensor]]:
    """Names of the domains, and the mask ``bool [A]`` of their concepts."""
    book = book_of(context.data)
    for domain, names in book.domains.items():
        yield domain, torch.tensor([name in names for name in book.concepts])


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """In-prompt accuracy."""
    return [InPromptAccuracy]
