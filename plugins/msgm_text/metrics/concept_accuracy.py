"""Accuracy on images of prompts: UA of the concepts to forget, IRA and CRA of the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msgm_bench import (
    Artifact,
    Evidence,
    Metric,
    MetricColumn,
    ModelContext,
    PromptGroup,
    Row,
    hookimpl,
)
from msgm_text.metrics.judged_images import (
    JudgedPrompts,
    item_pairs,
    item_tensors,
    judge_prompts,
)
from msgm_text.metrics.prompt_evidence import name_tensor
from msgm_text.metrics.prompt_metric import (
    CONCEPTS,
    PromptMetric,
    concept_rows,
    sample_rows,
    share_row,
)
from msgm_text.tasks.prompt_sets import book_of

ERASED: tuple[PromptGroup, ...] = ("synonym", "implicit", "pair", "adversarial")


class UnlearningAccuracy(PromptMetric):
    """Share of the images of prompts for concepts to forget that do not show them, in per cent.

    An image shows its prompt's concept where the judge recognises the image and sees the concept,
    so noise counts as unlearned: ``ua_unrecognisable`` is the share that is not recognised.
    Companions: ``ua_synonym``, ``ua_implicit``, ``ua_pair`` and ``ua_adversarial`` of such prompts
    with their unrecognisable shares, ``ua:CONCEPT`` of each of several concepts, and both values
    of pairs of a real held-out item and a concept to forget that it carries (``ua_floor``,
    ``ua_unrecognisable_floor``): the errors of the judge itself.
    """

    name = "ua-prompts"
    citation = "Zhang et al. 2024, arXiv:2402.11846, section 4 (UnlearnCanvas)"
    headline = "ua"
    label = "unlearning_accuracy"
    group = "target"
    columns = (
        MetricColumn(
            metric="ua",
            label="UA",
            digits=1,
            direction="up",
            track="text",
            position=10,
            ranks=True,
        ),
        MetricColumn(
            metric="ua_unrecognisable",
            label="unrecog.",
            digits=1,
            direction="down",
            track="text",
            position=20,
        ),
    )
    protocols = ("unlearning_accuracy/prompts",)

    def judged_tensors(self, context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
        """Concepts that the judge sees in the images of each group, and in real items of D_f."""
        tensors = self.judge_group(context, artifact).tensors(self.group)
        groups = book_of(context.data).groups(context.targets)
        for group in (name for name in ERASED if groups[name]):
            tensors |= judge_prompts(context, artifact, group).tensors(group)
        names = {CONCEPTS: name_tensor(context.data.classes)}
        targets = {"targets": torch.tensor(context.targets)}
        return tensors | item_tensors(context, context.forget, "forget") | names | targets

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The headline, its concepts, the further groups, and the floors."""
        fields = evidence.common | {"unit": "%"}
        target = JudgedPrompts.of(evidence, cls.group)
        unlearned = ~target.shows_concept
        rows = sample_rows("ua", unlearned, target.recognised, fields)
        rows += concept_rows("ua", unlearned, target, evidence, fields)
        for group in (name for name in ERASED if name in evidence):
            images = JudgedPrompts.of(evidence, group)
            rows += sample_rows(f"ua_{group}", ~images.shows_concept, images.recognised, fields)
        targets = evidence.integers("targets").tolist()
        present, recognised = item_pairs(evidence, "forget", targets)
        common = {"split": "forget", **fields}
        return [
            *rows,
            share_row(~present, metric="ua_floor", **common),
            share_row(~recognised, metric="ua_unrecognisable_floor", **common),
        ]


class RetainAccuracy(PromptMetric):
    """Share of the images of prompts for retained concepts that show them, in per cent.

    Companions: the share that the judge does not recognise (``NAME_unrecognisable``), the share
    of each of several concepts (``NAME:CONCEPT``), and that of pairs of a real held-out item and
    one of these concepts that it carries (``NAME_clean``), which the judge can reach.
    """

    citation = UnlearningAccuracy.citation

    def judged_tensors(self, context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
        """Concepts that the judge sees in the images, and in real items of D_g."""
        return (
            self.judge_group(context, artifact).tensors(self.group)
            | item_tensors(context, context.retain, "retain")
            | {CONCEPTS: name_tensor(context.data.classes)}
        )

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The headline and its companions."""
        fields, metric = evidence.common | {"unit": "%"}, cls.headline
        images = JudgedPrompts.of(evidence, cls.group)
        present, _ = item_pairs(evidence, "retain", images.concepts.unique().tolist())
        return [
            *sample_rows(metric, images.shows_concept, images.recognised, fields),
            *concept_rows(metric, images.shows_concept, images, evidence, fields),
            share_row(present, metric=f"{metric}_clean", split="retain", **fields),
        ]


class InDomainRetainAccuracy(RetainAccuracy):
    """Share of the images of neighbours' prompts that show their concept, in per cent (IRA).

    Neighbours are retained concepts of a domain of the concepts to forget. Companions:
    ``ira_unrecognisable``, ``ira:CONCEPT``, and ``ira_clean`` on real held-out items.
    """

    name = "ira"
    headline = "ira"
    label = "in_domain_accuracy"
    group = "neighbour"
    columns = (
        MetricColumn(
            metric="ira", label="IRA", digits=1, direction="up", track="text", position=40
        ),
    )
    protocols = ("in_domain_accuracy/prompts",)


class CrossDomainRetainAccuracy(RetainAccuracy):
    """Share of the images of other domains' prompts that show their concept, in per cent (CRA).

    Companions: ``cra_unrecognisable``, ``cra:CONCEPT``, and ``cra_clean`` on real held-out items.
    """

    name = "cra"
    headline = "cra"
    label = "cross_domain_accuracy"
    group = "unrelated"
    columns = (
        MetricColumn(
            metric="cra", label="CRA", digits=1, direction="up", track="text", position=50
        ),
    )
    protocols = ("cross_domain_accuracy/prompts",)


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """UA, IRA and CRA."""
    return [UnlearningAccuracy, InDomainRetainAccuracy, CrossDomainRetainAccuracy]
