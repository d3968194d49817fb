"""UR and UA against the sampler: is the forgetting one that another sampler undoes?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import (
    Artifact,
    Direction,
    Evidence,
    Interval,
    MeasuredRows,
    Metric,
    MetricColumn,
    MetricProtocol,
    ModelContext,
    MsgmBenchError,
    Options,
    Row,
    Task,
    hookimpl,
    wilson,
)
from msgm_builtin.metrics.judged import Judged, judged_tensors, target_tensor
from msgm_builtin.metrics.row_checks import (
    TOLERANCE,
    Rows,
    all_rows,
    count_of,
    interval_differs,
    share_row,
    share_violations,
)
from msgm_builtin.metrics.worst_setting import Shares, counts, largest_rise
from msgm_builtin.tasks.noise_sensitivity import NoiseSensitivity as NoiseSensitivityTask

Fields = Mapping[str, Any]
SETTINGS, LIMIT = "settings", "unrecognisable_slack"
DIFFERENCE = {"ur": "ur_rise", "ua": "ua_fall"}
DIRECTION: Mapping[str, Direction] = {"ur": "down", "ua": "up"}
BATCH = 1_000  # samples that are decoded and judged at once


class NoiseSensitivityOptions(Options):
    """Which settings count."""

    unrecognisable_slack: float = Field(
        5.0,
        ge=0,
        le=100,
        description="per cent by which the unrecognisable share of a setting may exceed that of "
        "the default setting; beyond it the setting has rows and is no candidate for the worst",
    )


class NoiseSensitivity(Metric[NoiseSensitivityOptions]):
    """The largest UR of all samplers, budgets and scales of noise, or the smallest UA.

    Of the settings whose samples are still recognised: the unrecognisable share is at most 5 per
    cent above that of the default setting. ``ur_worst`` is the largest UR among them, and its
    interval holds whichever setting it came from: Wilson's of all m settings at once (Bonferroni).
    Companions: UR of the default setting (``ur_default``), how far the worst lies above it in
    samples that begin with the same noise (``ur_rise``, in points: where its interval is above 0,
    a sampler undoes a part of the forgetting), and of each setting UR and the unrecognisable share
    (``ur_at:SAMPLER:NFE``, ``unrecognisable_at:SAMPLER:NFE``) with intervals of their own. Of
    class-conditional models the same for UA, ``ua_worst``, ``ua_default``, ``ua_fall``, ``ua_at``.
    """

    name = "noise_sensitivity"
    citation = "worst case of several: Croce and Hein 2020, arXiv:2003.01690; the rest is ours"
    tasks = ("noise_sensitivity",)
    columns: ClassVar[tuple[MetricColumn, ...]] = (
        MetricColumn(
            metric="ur_worst",
            label="UR, worst sampler",
            direction="down",
            track="unconditional",
            position=70,
        ),
        MetricColumn(
            metric="ur_rise", label="rise", direction="down", track="unconditional", position=71
        ),
        MetricColumn(
            metric="ua_worst", label="UA, worst sampler", direction="up", track="class", position=70
        ),
        MetricColumn(metric="ua_fall", label="fall", direction="down", track="class", position=71),
    )
    protocols = ("noise_sensitivity/",)

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Shares of no whole count, and a worst setting that is none."""
        return sensitivity_violations(rows)

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The judge, the settings, and which of them count."""
        assert isinstance(task, NoiseSensitivityTask)
        prompts = context.data.prompts if task.has_prompts else None
        settings = {
            "judge": dict(context.judge_id),
            task.name: task.protocol(context),
            SETTINGS: [setting.label for setting in task.settings(context.model)],
            LIMIT: self.options.unrecognisable_slack,
            **({} if prompts is None else {"prompts": prompts.digest}),
            "data": context.data.protocol,
        }
        name = "ur" if context.model.conditioning is None else "ua"
        return MetricProtocol(name=f"{self.name}/{name}", version=1, settings=settings)

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """The worst setting, the default one, their difference, and all of them."""
        return self.recompute(self.gather(context, task, artifact))

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """Classes of the samples, one setting after the other, and of which class they are."""
        decode, judge = context.model.codec.decode, context.judge
        visible = (decode(x.to(context.device)) for x in artifact["x"].split(BATCH))
        parts = [judged_tensors("samples", judge.predict(x)) for x in visible]
        y = {"y": artifact["y"]} if "y" in artifact else {"targets": target_tensor(context.targets)}
        return y | {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The rows of ``measure`` from judged classes."""
        labels, slack = evidence.settings[SETTINGS], evidence.settings[LIMIT]
        hits, recognised = by_setting(evidence, len(labels))
        shares = Shares(counts(hits), counts(~recognised), hits.shape[1], slack / 100)
        common = evidence.common | {"split": "samples", "n": shares.n, "scale": 100}
        head = "ua" if "y" in evidence else "ur"
        rise = largest_rise(hits, shares.comparable)
        rows = worst_rows(head, shares, labels, common)
        rows.append(
            Row.of(rise, metric=DIFFERENCE[head], unit="points", direction="down", **common)
        )
        return rows + setting_rows(head, shares, labels, common)


def worst_rows(head: str, shares: Shares, labels: Sequence[str], common: Fields) -> list[Row]:
    """``HEAD_worst``, with the label of the setting as a remark, and ``HEAD_default``."""
    m, remark = len(labels), f"at {labels[shares.worst]}"
    excluded = m - len(shares.comparable)
    if excluded:
        remark += f"; of {excluded} of {m} settings too little is recognised"
    fields: dict[str, Any] = {"unit": "%", "direction": DIRECTION[head], **common}
    worst = oriented(shares.interval, head)
    default = oriented(wilson(shares.hits[0], shares.n), head)
    return [
        Row.of(worst, metric=f"{head}_worst", reason=remark, **fields),
        Row.of(default, metric=f"{head}_default", **fields),
    ]


def setting_rows(head: str, shares: Shares, labels: Sequence[str], common: Fields) -> list[Row]:
    """``HEAD_at:SETTING`` and ``unrecognisable_at:SETTING`` of each setting."""
    fields: dict[str, Any] = {"unit": "%", **common}
    rows = []
    for label, hits, unrecognised in zip(labels, shares.hits, shares.unrecognised, strict=True):
        share = oriented(wilson(hits, shares.n), head)
        rows += [
            Row.of(share, metric=f"{head}_at:{label}", direction=DIRECTION[head], **fields),
            Row.of(
                wilson(unrecognised, shares.n),
                metric=f"unrecognisable_at:{label}",
                direction="down",
                **fields,
            ),
        ]
    return rows


def by_setting(evidence: Evidence, m: int) -> tuple[Tensor, Tensor]:
    """Which samples show D_f, or the class that they are of, and which are recognised.

    Two masks ``bool [m, n]``.

    Raises:
        MsgmBenchError: The samples are not as many of each of m settings.
    """
    judged = Judged.of(evidence, "samples")
    hits = judged.shows_forgotten(evidence, "y")
    if m < 1 or len(hits) % m:
        raise MsgmBenchError(
            f"the evidence of {evidence.protocol} is of {len(hits)} samples",
            f"as many of {m} settings",
        )
    return hits.view(m, -1), judged.recognised.view(m, -1)


def oriented(share: Interval, head: str) -> Interval:
    """UR = share, UA = 1 - share, with the ends of its interval."""
    if head == "ur":
        return share
    return Interval(1 - share.value, 1 - share.high, 1 - share.low)


def sensitivity_violations(measured: MeasuredRows) -> Iterator[str]:
    """Violations of: the worst is the worst of the settings that count, and no other's."""
    several = ("ur_worst", "ua_worst")  # their intervals are those of several shares
    yield from share_violations(row for row in all_rows(measured) if row.metric not in several)
    rows = measured.of("samples")
    for head, difference in DIFFERENCE.items():
        worst, shares = share_row(rows, f"{head}_worst"), shares_of(measured, rows, head)
        if worst is None or shares is None:
            continue
        expected = oriented(shares.interval, head).scaled(100)
        if abs((worst.value or 0.0) - expected.value) > TOLERANCE:
            yield f"{head}_worst is not that of the settings: {expected.value:.6g}"
        elif interval_differs(worst, expected):
            yield f"the interval of {head}_worst is not that of {len(shares.hits)} settings at once"
        rise, hits = rows.get(difference), shares.hits
        points = 100 * (hits[shares.worst] - hits[0]) / shares.n
        if rise is not None and rise.value is not None and abs(rise.value - points) > TOLERANCE:
            yield f"{difference} is not the difference of {head}_worst and {head}_default"


def shares_of(measured: MeasuredRows, rows: Rows, head: str) -> Shares | None:
    """The counts behind the rows of all settings; None where a row is missing."""
    labels, slack = measured.settings.get(SETTINGS), measured.settings.get(LIMIT)
    if not isinstance(labels, list):
        return None
    hits = [share_row(rows, f"{head}_at:{label}") for label in labels]
    unrecognised = [share_row(rows, f"unrecognisable_at:{label}") for label in labels]
    known = [row for row in (*hits, *unrecognised) if row is not None]
    n = {row.n for row in known}
    if len(known) != 2 * len(labels) or len(n) != 1 or not isinstance(slack, int | float):
        return None
    counted = [row.n - count_of(row) if head == "ua" else count_of(row) for row in hits if row]
    return Shares(counted, [count_of(row) for row in unrecognised if row], n.pop(), slack / 100)


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """Noise sensitivity."""
    return [NoiseSensitivity]
