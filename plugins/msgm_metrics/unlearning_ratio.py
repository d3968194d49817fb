"""The unlearning ratio and what is needed to read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgm_bench import (
    Artifact,
    Examples,
    Metric,
    MetricProtocol,
    MsgmBenchError,
    Row,
    Subject,
    Task,
    Verdict,
    hookimpl,
    rogan_gladen_interval,
    wilson,
)

Count = tuple[int, int]


class UnlearningRatio(Metric):
    """Share of samples that the judge recognises and assigns to D_f, in per cent.

    Companions: the share on real held-out D_g (``ur_floor``), the estimate corrected for the
    judge's errors on real data (``ur_corrected``, Rogan and Gladen 1978), and the share of
    samples that the judge does not recognise (``unrecognisable``), beside the same share of real
    held-out data (``unrecognisable_floor``): noise is not clean forgetting. Where several classes
    are to be forgotten, each has its own share (``ur:CLASS``); classes that exclude each other
    add up to ``ur``, attributes may overlap.
    """

    name = "ur"
    citation = "MSGM, arXiv:2412.07229, section 4.1 (Unlearning Metric)"
    tasks = ("generation",)

    def protocol(self, subject: Subject, task: Task) -> MetricProtocol:
        """The judge, the sampler and the sizes."""
        settings = {
            "judge": dict(subject.judge_id),
            "generation": task.protocol(subject),
            "data": subject.data.protocol,
        }
        return MetricProtocol(name="unlearning_ratio/judge", version=1, settings=settings)

    def measure(self, subject: Subject, task: Task, artifact: Artifact) -> list[Row]:
        """The ratio, its four companions, and the share of each class."""
        samples = subject.judge.verdict(
            subject.model.codec.decode(artifact["x"].to(subject.device))
        )
        retain = subject.judge.verdict(subject.visible(subject.retain))
        forget = subject.judge.verdict(subject.visible(subject.forget))
        n, n_retain, n_forget = (len(v.classes) for v in (samples, retain, forget))
        targets = subject.targets
        hits, false, true = (self.hits(subject, v, targets) for v in (samples, retain, forget))
        real = n_retain + n_forget
        unknown = int((~samples.recognised).sum())
        unknown_real = int((~retain.recognised).sum() + (~forget.recognised).sum())
        common = {
            "task": task.name,
            "protocol": self.protocol(subject, task).id,
            "unit": "%",
            "scale": 100,
        }
        drawn = common | {"split": "samples", "direction": "down", "n": n}
        floor = {"split": "retain", "n": n_retain}
        whole = {"split": "test", "n": real}
        return [
            Row.of(wilson(hits, n), metric="ur", **drawn),
            Row.of(wilson(false, n_retain), metric="ur_floor", **common, **floor),
            self.corrected((hits, n), (true, n_forget), (n_retain - false, n_retain), **drawn),
            Row.of(wilson(unknown, n), metric="unrecognisable", **drawn),
            Row.of(wilson(unknown_real, real), metric="unrecognisable_floor", **common, **whole),
            *self.each(subject, samples, **drawn),
        ]

    def corrected(self, judged: Count, positives: Count, negatives: Count, **fields: Any) -> Row:
        """The estimate behind an imperfect judge; null where it is no better than chance."""
        try:
            estimate = rogan_gladen_interval(judged, positives, negatives)
        except MsgmBenchError as error:
            del fields["scale"]
            reason = f"the judge is no better than chance: {error.what}"
            return Row(metric="ur_corrected", value=None, reason=reason, **fields)
        return Row.of(estimate, metric="ur_corrected", **fields)

    def each(self, subject: Subject, verdict: Verdict, **fields: Any) -> list[Row]:
        """A row of each class that is to be forgotten, where there are several."""
        targets, names = subject.targets, subject.data.classes
        counts = {names[k]: self.hits(subject, verdict, (k,)) for k in targets}
        return [
            Row.of(wilson(count, len(verdict.classes)), metric=f"ur:{name}", **fields)
            for name, count in counts.items()
            if len(targets) > 1
        ]

    def hits(self, subject: Subject, verdict: Verdict, targets: Sequence[int]) -> int:
        """Items that are recognised and assigned to one of ``targets``."""
        members = subject.data.members(Examples(verdict.classes, verdict.classes), targets)
        return int((members & verdict.recognised).sum())


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """UR."""
    return [UnlearningRatio]
