"""In-prompt accuracy: what a prompt asks for beside the concept to forget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from msgm_bench import Artifact, Evidence, Metric, MetricColumn, ModelContext, Row, hookimpl
from msgm_text.metrics.judged_images import Judged, concept_mask, images_of, judge_items
from msgm_text.metrics.prompt_evidence import check_same_length, name_tensor, names_of
from msgm_text.metrics.prompt_metric import (
    NothingToCountError,
    PromptMetric,
    sample_rows,
    share_row,
)
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

    def judged_tensors(self, context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
        """Concepts that are seen in images of pairs and real items of D_f, and should be."""
        book, images = book_of(context.data), self.judge_group(context, artifact)
        targets, prompts = list(context.targets), artifact["prompt"].cpu()
        chosen = prompts[images_of(context, artifact, self.group)].tolist()
        wanted = torch.zeros(len(chosen), len(context.data.classes), dtype=torch.bool)
        for row, i in zip(wanted, chosen, strict=True):
            row[list(book[i].concepts)] = True
        wanted[:, targets] = False
        if not bool(wanted.any()):
            raise NothingToCountError("no pair asks for anything but the concepts to forget")
        real = concept_mask(context.forget.y.cpu(), len(context.data.classes)).clone()
        real[:, targets] = False
        domains = [[name in names for name in book.concepts] for names in book.domains.values()]
        return {
            **images.tensors("pair"),
            "pair_wanted": wanted,
            **judge_items(context, context.forget).tensors("forget"),
            "forget_wanted": real,
            "domains": torch.tensor(domains).reshape(len(domains), wanted.shape[1]).bool(),
            "domain_names": name_tensor([*book.domains]),
        }

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The headline and its companions."""
        fields = evidence.common | {"unit": "%"}
        images, wanted = Judged.of(evidence, "pair"), wanted_of(evidence, "pair")
        more = wanted.any(dim=1)
        counted = shows_all(images.present, wanted)[more]
        rows = sample_rows("in_prompt", counted, images.recognised[more], fields)
        common = {"split": "samples", "direction": "up", **fields}
        if images.objects is not None:
            bound = shows_all(images.objects, wanted[:, None]).any(dim=1)[more]
            rows.append(share_row(bound, metric="in_prompt_bound", **common))
        for domain, members in domains_of(evidence):
            part = wanted & members
            some = part.any(dim=1)
            if bool(some.any()) and not bool((part == wanted).all()):
                counted = shows_all(images.present, part)[some]
                rows.append(share_row(counted, metric=f"in_prompt:{domain}", **common))
        real, wanted = Judged.of(evidence, "forget"), wanted_of(evidence, "forget")
        present = shows_all(real.present, wanted)[wanted.any(dim=1)]
        return [*rows, share_row(present, metric="in_prompt_clean", split="forget", **fields)]


def wanted_of(evidence: Evidence, name: str) -> Tensor:
    """The concepts that the images ``name`` should show beside D_f, ``bool [N, A]``.

    Raises:
        MsgmBenchError: They are missing, or not those of the images.
    """
    wanted, present = evidence.mask(f"{name}_wanted", 2), evidence.mask(name, 2)
    check_same_length(evidence, wanted, present)
    check_same_length(evidence, wanted.T, present.T)
    return wanted


def shows_all(present: Tensor, wanted: Tensor) -> Tensor:
    """Mask ``bool [...]`` of what shows all it should; both ``bool [..., A]``."""
    return (present | ~wanted).all(dim=-1)


def domains_of(evidence: Evidence) -> Iterator[tuple[str, Tensor]]:
    """Names of the domains, and the mask ``bool [A]`` of their concepts.

    Raises:
        MsgmBenchError: They are missing, or not as many.
    """
    names, domains = names_of(evidence, "domain_names"), evidence.mask("domains", 2)
    check_same_length(evidence, domains, torch.empty(len(names)))
    yield from zip(names, domains, strict=True)


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """In-prompt accuracy."""
    return [InPromptAccuracy]
