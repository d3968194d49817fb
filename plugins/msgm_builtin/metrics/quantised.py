"""UR, UA and RA of samples of copies with rounded weights, and how far the rounding moves them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
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
    Row,
    Task,
    hookimpl,
    members_of,
    wilson,
)
from msgm_builtin.metrics.judged import (
    Judged,
    check_lengths,
    judged_tensors,
    named_targets,
    target_tensor,
)
from msgm_builtin.metrics.paired_shares import paired_share_difference
from msgm_builtin.metrics.row_checks import TOLERANCE, all_rows, share_violations
from msgm_builtin.tasks.quantised_generation import QuantisedTask

FULL = "unquantised"
Shares = Mapping[str, tuple[Tensor, Direction]]
"""Mask of samples that count, and which way is better, by metric."""


class QuantisedShares(Metric):
    """Shares of samples of quantised copies, and their differences to the model's, paired by noise.

    Rows of each number of bits B: ``NAME_intB``, and ``NAME_intB_change`` in points, the share of
    the copy less that of the model on the same noise; ``NAME_unquantised`` is the model's.
    """

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Shares of no whole count, and changes that are not the difference of two of them."""
        yield from share_violations(all_rows(rows))
        samples = rows.of("samples")
        for metric, change in samples.items():
            if not metric.endswith("_change") or change.value is None:
                continue
            quantised = metric.removesuffix("_change")
            name = quantised.rpartition("_")[0]
            parts = samples.get(quantised), samples.get(f"{name}_{FULL}")
            copy_value, own = (None if row is None else row.value for row in parts)
            if copy_value is None or own is None:
                yield f"{metric} has a value without {quantised} and {name}_{FULL}"
            elif abs(copy_value - own - change.value) > TOLERANCE:
                yield f"{metric} is not {quantised} less {name}_{FULL}"

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The judge, the sampler, the number of samples and the bits."""
        settings = {
            "judge": dict(context.judge_id),
            task.name: task.protocol(context),
            "data": context.data.protocol,
        }
        return MetricProtocol(name=self.protocols[0], version=1, settings=settings)

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """The rows of each number of bits, then those of the model."""
        return self.recompute(self.gather(context, task, artifact))

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """Judged classes of the samples of the model and of each copy."""
        assert isinstance(task, QuantisedTask)
        bits: tuple[int, ...] = task.options.bits
        tensors = {"bits": torch.tensor(bits), "targets": target_tensor(context.targets)}
        if "y" in artifact:
            tensors["y"] = artifact["y"]
        for name in ("x", *(f"x_int{b}" for b in bits)):
            x = context.model.codec.decode(artifact[name].to(context.device))
            judged = name.replace("x", "samples", 1)
            tensors |= judged_tensors(judged, context.judge.predict(x))
            tensors[f"{judged}_finite"] = torch.isfinite(x).flatten(1).all(dim=1)
        return tensors

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The rows of ``measure`` from judged classes."""
        all_bits = evidence.integers("bits").tolist()
        if not all_bits:
            raise MsgmBenchError(f"the evidence of {evidence.protocol} has no bits", "one at least")
        rows = list[Row]()
        common: dict[str, Any] = evidence.common | {"split": "samples", "scale": 100}
        full = cls.shares(evidence, "samples")
        for bits in all_bits:
            for name, (mask, direction) in cls.shares(evidence, f"samples_int{bits}").items():
                fields = common | {"n": len(mask), "direction": direction}
                label, change = f"{name}_int{bits}", paired_share_difference(mask, full[name][0])
                rows += [
                    Row.of(_wilson(mask), metric=label, unit="%", **fields),
                    Row.of(change, metric=f"{label}_change", unit="points", **fields),
                ]
        for name, (mask, direction) in full.items():
            fields = common | {"n": len(mask), "direction": direction, "unit": "%"}
            rows.append(Row.of(_wilson(mask), metric=f"{name}_{FULL}", **fields))
        return rows

    @classmethod
    @abstractmethod
    def shares(cls, evidence: Evidence, samples: str) -> Shares:
        """The shares of the samples of one model, by the name of their tensors."""


class QuantisedRatio(QuantisedShares):
    """UR of samples of quantised copies, beside the model's on the same noise, in per cent.

    Forgetting that a rounding of the weights undoes is not forgetting. UR and the share that the
    judge does not recognise (``unrecognisable``) are those of the metric ``ur``: rows ``ur_int8``,
    ``ur_int8_change``, ``unrecognisable_int8`` and so on for each number of bits, and
    ``ur_unquantised``. A change in points is the copy's share less the model's.
    """

    name = "ur-quantised"
    citation = "Zhang et al. 2025, arXiv:2410.16454; MSGM, arXiv:2412.07229, section 4.1"
    tasks = ("quantised_generation",)
    columns = (
        MetricColumn(
            metric="ur_int8",
            label="UR int8",
            direction="down",
            track="unconditional",
            position=72,
            in_tables=False,
        ),
        MetricColumn(
            metric="ur_int4",
            label="UR int4",
            direction="down",
            track="unconditional",
            position=73,
        ),
    )
    protocols = ("quantised_ratio/judge",)

    @classmethod
    def shares(cls, evidence: Evidence, samples: str) -> Shares:
        """UR, and what is not recognised."""
        judged = Judged.of(evidence, samples)
        hits = judged.shows_any([*named_targets(evidence).values()])
        return {"ur": (hits, "down"), "unrecognisable": (~judged.recognised, "down")}


class QuantisedAccuracy(QuantisedShares):
    """UA and RA of samples of quantised copies, beside the model's on the same noise, in per cent.

    UA is the share of samples of classes to forget that do not show their class, as of the metric
    ``ua``, RA the share of the others that do, as of ``ra``: rows ``ua_int8``,
    ``ua_int8_change``, ``ua_unrecognisable_int8``, ``ra_int8`` and so on for each number of bits,
    and ``ua_unquantised``. A change in points is the copy's share less the model's.
    """

    name = "ua-quantised"
    citation = "Zhang et al. 2025, arXiv:2410.16454; Heng and Soh 2023, arXiv:2305.10120"
    tasks = ("quantised_class_generation",)
    columns = (
        MetricColumn(
            metric="ua_int8",
            label="UA int8",
            direction="up",
            track="class",
            position=72,
            in_tables=False,
        ),
        MetricColumn(metric="ua_int4", label="UA int4", direction="up", track="class", position=73),
    )
    protocols = ("quantised_accuracy/judge",)

    @classmethod
    def shares(cls, evidence: Evidence, samples: str) -> Shares:
        """UA, the share of the same samples that is not recognised, and RA."""
        judged, finite = Judged.of(evidence, samples), evidence.mask(f"{samples}_finite")
        y = evidence.integers("y")
        check_lengths(evidence, judged.classes, y, finite)
        forget = members_of(y, [*named_targets(evidence).values()])
        return {
            "ua": (~judged.shows(y)[forget], "up"),
            "ua_unrecognisable": (~judged.recognised[forget], "down"),
            "ra": (((judged.classes == y) & finite)[~forget], "up"),
        }


def _wilson(mask: Tensor) -> Interval:
    return wilson(int(mask.sum()), len(mask))


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """UR of the unconditional track, UA and RA of the class-conditional one."""
    return [QuantisedRatio, QuantisedAccuracy]
