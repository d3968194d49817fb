"""Membership: whether forgotten training items are still told apart from unseen ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from msgm_bench import (
    Artifact,
    Evidence,
    Interval,
    MeasuredRows,
    Metric,
    MetricColumn,
    MetricProtocol,
    ModelContext,
    Row,
    Task,
    hookimpl,
)
from msgm_builtin.metrics.judged import check_lengths
from msgm_builtin.metrics.roc import (
    Placements,
    auc_difference,
    exact_share,
    true_positives,
)
from msgm_builtin.metrics.row_checks import TOLERANCE, count_of, interval_differs, share_row
from msgm_builtin.tasks.membership import Membership as MembershipTask

FALSE_POSITIVE_RATE = 0.01
LOSS, NLL = "membership", "membership_nll"
NO_CONTROL = (
    "no model that never saw the classes: there is none for a given base, for a stored model, or "
    "for data without items"
)
NO_NLL = "no likelihood was computed: the model is of latents, or membership.nll_count is 0"

Fields = Mapping[str, Any]


class Membership(Metric):
    """How well a model's losses tell training items of D_f from held-out ones: 50 % is chance.

    The score of an item is the mean over noise levels of the logarithm of its loss, and AUC =
    100 Pr[score of a training item < score of a held-out one], ties half (``membership_auc``).
    An AUC below 50 tells the items apart, too: the method pushed those away that it trained on. So
    the headline is max(AUC, 100 - AUC). Companions: the AUC of the control, which saw neither group
    (``membership_auc_control``), and what the model's is above it in points, paired over items
    (``membership_excess``); the share of training items below a threshold that at most 1 % of the
    held-out ones are below (``membership_tpr``, ``membership_tpr_control``); the AUC of the loss
    at each level (``membership_auc:LEVEL``); and all but these last of the score -log p in the
    place of the losses (``membership_nll``, ``membership_nll_auc`` and so on).
    """

    name = "membership"
    citation = (
        "Hu and Pang 2023, arXiv:2301.09956; Carlini et al. 2023, arXiv:2301.13188, section 5"
    )
    tasks = ("membership",)
    columns = (
        MetricColumn(
            metric=LOSS,
            split="forget",
            label="MIA AUC",
            digits=1,
            direction="down",
            position=70,
        ),
        MetricColumn(
            metric=f"{LOSS}_excess",
            split="forget",
            label="MIA excess",
            digits=1,
            direction="none",
            position=71,
            in_tables=False,
        ),
    )
    protocols = ("membership/",)

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Headlines and differences that do not follow from the AUCs, shares of no whole count."""
        for prefix in (LOSS, NLL):
            yield from membership_violations(rows.of("forget"), prefix)

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The items, the noise levels and the likelihood."""
        drawn = task.protocol(context)
        name = "membership/training-or-held-out"
        if "condition" in drawn:
            name += f"/{drawn['condition'].replace(' ', '-')}"
        settings = {
            task.name: drawn,
            "data": context.data.protocol,
            "score": "mean over levels of log loss",
            "false_positive_rate": FALSE_POSITIVE_RATE,
        }
        return MetricProtocol(name=name, version=1, settings=settings)

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """The rows of the losses, then those of the likelihood."""
        return self.recompute(self.gather(context, task, artifact))

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """Losses and NLL of each item, of the model and of the control."""
        assert isinstance(task, MembershipTask)
        tensors = {name: artifact[name] for name in ("member", "has_nats", "loss", "nats")}
        tensors["levels"] = torch.tensor(task.options.levels, dtype=torch.float64)
        if context.control:
            tensors |= {f"control_{name}": context.control[name] for name in ("loss", "nats")}
        return tensors

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The rows of ``measure`` from the losses and the NLL of each item."""
        member, chosen = evidence.mask("member"), evidence.mask("has_nats")
        loss, nats = evidence.numbers("loss", 2), evidence.numbers("nats")
        check_lengths(evidence, member, chosen, loss, nats)
        control_loss = control_nats = None
        if "control_loss" in evidence:
            control_loss = log_mean(evidence.numbers("control_loss", 2))
            control_nats = evidence.numbers("control_nats")
            check_lengths(evidence, member, control_loss, control_nats)
            control_nats = control_nats[chosen]
        fields = evidence.common | {"split": "forget"}
        rows = score_rows(LOSS, log_mean(loss), control_loss, member, fields)
        for level, of_level in zip(evidence.numbers("levels").tolist(), loss.T, strict=False):
            auc = placements(of_level, member).interval
            rows.append(auc_row(auc, len(member), f"{LOSS}_auc:{level:g}", fields))
        if bool(chosen.any()):
            return rows + score_rows(NLL, nats[chosen], control_nats, member[chosen], fields)
        empty: dict[str, Any] = {"value": None, "unit": "%", "n": 0, "reason": NO_NLL}
        return [*rows, Row(metric=NLL, direction="down", **empty, **fields)]


def log_mean(losses: Tensor) -> Tensor:
    """Mean of log loss over levels, ``[N, levels]`` to ``[N]``."""
    return losses.clamp(min=torch.finfo(losses.dtype).tiny).log().mean(dim=1)


def placements(score: Tensor, member: Tensor) -> Placements:
    """Where members (``member [N]``) lie among the others; a low score says member."""
    return Placements.of(-score[member].numpy(), -score[~member].numpy())


def score_rows(
    name: str, score: Tensor, control: Tensor | None, member: Tensor, fields: Fields
) -> list[Row]:
    """The headline of a score ``[N]``, the AUCs, their difference and the shares."""
    n, here = len(member), placements(score, member)
    headline: dict[str, Any] = {"unit": "%", "scale": 100, "n": n, "direction": "down"}
    rows = [
        Row.of(two_sided(here.interval), metric=name, **headline, **fields),
        auc_row(here.interval, n, f"{name}_auc", fields),
    ]
    if control is None:
        for metric, unit in (("auc_control", "%"), ("excess", "points")):
            empty: dict[str, Any] = {"value": None, "unit": unit, "n": 0, "reason": NO_CONTROL}
            rows.append(Row(metric=f"{name}_{metric}", **empty, **fields))
        return [*rows, tpr_row(score, member, f"{name}_tpr", "down", fields)]
    there = placements(control, member)
    excess = auc_difference(here, there)
    points: dict[str, Any] = {"unit": "points", "scale": 100, "n": n}
    return [
        *rows,
        auc_row(there.interval, n, f"{name}_auc_control", fields),
        Row.of(excess, metric=f"{name}_excess", **points, **fields),
        tpr_row(score, member, f"{name}_tpr", "down", fields),
        tpr_row(control, member, f"{name}_tpr_control", "none", fields),
    ]


def two_sided(auc: Interval) -> Interval:
    """max(AUC, 1 - AUC), with the interval of all values that AUC's may be."""
    ends = [max(end, 1 - end) for end in (auc.low, auc.high)]
    low = 0.5 if auc.contains(0.5) else min(ends)
    return Interval(max(auc.value, 1 - auc.value), low, max(ends))


def auc_row(auc: Interval, n: int, metric: str, fields: Fields) -> Row:
    """A row of an AUC in per cent."""
    return Row.of(auc, metric=metric, unit="%", scale=100, n=n, **fields)


def tpr_row(score: Tensor, member: Tensor, metric: str, direction: str, fields: Fields) -> Row:
    """The share of training items below the threshold, which counts as fixed in the interval."""
    positive, negative = -score[member].numpy(), -score[~member].numpy()
    k, m = true_positives(positive, negative, FALSE_POSITIVE_RATE), len(positive)
    allowed = int(FALSE_POSITIVE_RATE * len(negative))
    remark = f"below the scores of all but {allowed} of {len(negative)} held-out items"
    common: dict[str, Any] = {"unit": "%", "scale": 100, "n": m, "reason": remark}
    return Row.of(exact_share(k, m), metric=metric, direction=direction, **common, **fields)


def membership_violations(rows: Mapping[str, Row], name: str) -> Iterator[str]:
    """Violations of: headline = max(AUC, 100 - AUC), excess = AUC - control, TPR = k of n."""
    headline, auc, control, excess = (
        rows.get(f"{name}{suffix}") for suffix in ("", "_auc", "_auc_control", "_excess")
    )
    if headline is not None and headline.value is not None:
        value = None if auc is None else auc.value
        if value is None or abs(max(value, 100 - value) - headline.value) > TOLERANCE:
            yield f"{name} is not the larger of {name}_auc and what it lacks of 100"
    if excess is not None and excess.value is not None:
        own, other = (None if row is None else row.value for row in (auc, control))
        if own is None or other is None or abs(own - other - excess.value) > TOLERANCE:
            yield f"{name}_excess is not {name}_auc less {name}_auc_control"
    for metric in (f"{name}_tpr", f"{name}_tpr_control"):
        share = share_row(rows, metric)
        if share is None or share.n == 0:
            continue
        k = count_of(share)
        if abs(100 * k / share.n - (share.value or 0.0)) > TOLERANCE:
            yield f"{metric} is no whole number of {share.n} items"
        elif interval_differs(share, exact_share(k, share.n).scaled(100)):
            yield f"the interval of {metric} is not the exact one of {k} of {share.n}"


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """Membership."""
    return [Membership]
