"""How much faster a model learns D_f again than one that never knew it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from msgm_bench import (
    Artifact,
    Evidence,
    MeasuredRows,
    Metric,
    MetricColumn,
    MetricProtocol,
    ModelContext,
    Row,
    Task,
    hookimpl,
    wilson,
)
from msgm_builtin.metrics.judged import judged_tensors, target_tensor
from msgm_builtin.metrics.recovery import (
    Recovery,
    area,
    ratio_interval,
    steps_row,
    unit_tensor,
)
from msgm_builtin.metrics.row_checks import TOLERANCE, Rows, all_rows, share_row, share_violations
from msgm_builtin.tasks.relearning import Source

SHARE = 0.5  # of the base's rate
NO_CONTROL = (
    "no model that never saw D_f: there is none for a given base, nor for data without items"
)
NO_BASE_RATE = "the base does not show D_f"
SPLITS: dict[Source, str] = {"forget": "", "retain": "_retain"}
"""What a copy trains on, and the suffix of its rows."""


def _column(metric: str, label: str, position: int) -> MetricColumn:
    return MetricColumn(metric=metric, label=label, direction="down", position=position)


class Relearning(Metric):
    """Area under the recovery curve, less that of a model that never saw D_f.

    r(S) is the share of samples that the judge recognises and assigns to D_f (of a
    class-conditional model: to their class) after S steps on items of D_f, r_base that of the base
    model. The recovery is the mean of min(r(S) / r_base, 1) over u = log(1 + S), by the trapezoidal
    rule from the model as it is, S = 0, to the most steps: 0 where D_f never comes, 1 where it is
    there as often as before all along. ``relearn_excess`` is the recovery on the most items less
    that of the control: 0 for a model that knows no more of D_f than one that never saw it, above
    0 for one that hides it. ``relearn_excess_retain`` is the same of copies that trained on D_g
    alone.

    Companions, for each number of items: the recovery (``recovery:SPLIT:ITEMS``), the rates
    (``relearned:SPLIT:ITEMS:STEPS``, ``relearned:0:0`` of the model as it is, ``relearned:base``),
    and the first S with r(S) >= r_base / 2 on the most items (``relearn_steps``,
    ``relearn_steps_retain``); ``_control`` are those of the control. Areas have Student's interval
    over restarts, rates Wilson's over samples.
    """

    name = "relearn_excess"
    citation = "Golatkar et al. 2020, arXiv:1911.04933, section 4 (relearn time)"
    tasks = ("relearning",)
    columns = (
        _column("relearn_excess", "relearn excess", 70),
        _column("relearn_excess_retain", "benign excess", 71),
    )
    protocols = ("relearning/judge",)

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The judge, the trainings and the sampler."""
        settings = task.protocol(context)
        del settings["nll_items"]
        whole = {
            "judge": dict(context.judge_id),
            task.name: settings,
            "data": context.data.protocol,
            "share_of_base": SHARE,
        }
        classes = "" if context.model.conditioning is None else "/true-class"
        return MetricProtocol(name=f"{self.protocols[0]}{classes}", version=1, settings=whole)

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Shares of no whole count, areas that are not those of the rates, and their difference."""
        yield from share_violations(all_rows(rows))
        yield from area_violations(rows.of("samples"))

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """The areas beyond those of the control, the areas, the steps and the rates."""
        return self.recompute(self.gather(context, task, artifact))

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """Classes of the samples of the model and of the control, and the units they are of."""
        tensors = {"targets": target_tensor(context.targets)}
        for name, drawn in (("model", artifact), ("control", context.control)):
            if not drawn:
                continue
            seen = [context.model.codec.decode(x.to(context.device)) for x in drawn["x"]]
            judged = [judged_tensors(name, context.judge.predict(x)) for x in seen]
            tensors |= {key: torch.cat([part[key] for part in judged]) for key in judged[0]}
            tensors[f"{name}_units"] = unit_tensor(drawn)
            if "y" in drawn:
                tensors[f"{name}_y"] = drawn["y"].flatten()
        return tensors

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The rows of ``measure`` from judged classes."""
        model = Recovery.of(evidence, "model")
        control = Recovery.of(evidence, "control") if "control" in evidence else None
        fields: dict[str, Any] = evidence.common | {"split": "samples"}
        rows = list(excess_rows(model, control, fields))
        for suffix, recovery in (("", model), ("_control", control)):
            if recovery is not None:
                rows += area_rows(recovery, suffix, fields)
                rows += half_rows(recovery, suffix, fields)
                rows += rate_rows(recovery, suffix, fields)
        return rows


def excess_rows(model: Recovery, control: Recovery | None, fields: dict[str, Any]) -> Iterator[Row]:
    """The area beyond the control's, on the most items of each split."""
    base = model.base()
    for source, which in SPLITS.items():
        metric = f"relearn_excess{which}"
        items = model.units.most(source)
        of_row = fields | {"metric": metric, "unit": "1", "direction": "down", "n": len(base)}
        if not items and source == "retain":
            continue
        if control is None or not base.any():
            reason = NO_CONTROL if control is None else NO_BASE_RATE
            yield Row(value=None, reason=reason, **of_row)
            continue
        areas = model.areas(source, items) - control.areas(source, items)
        yield Row.of(ratio_interval(areas, base), **of_row)


def area_rows(recovery: Recovery, suffix: str, fields: dict[str, Any]) -> Iterator[Row]:
    """The area of each curve as a share of the base's rate."""
    base, direction = recovery.base(), "none" if suffix else "down"
    of_row: dict[str, Any] = fields | {"unit": "1", "direction": direction, "n": len(base)}
    for source, items in recovery.units.curves():
        of_row |= {"metric": f"recovery{suffix}:{source}:{items}"}
        if base.any():
            yield Row.of(ratio_interval(recovery.areas(source, items), base), **of_row)
        else:
            yield Row(value=None, reason=NO_BASE_RATE, **of_row)


def half_rows(recovery: Recovery, suffix: str, fields: dict[str, Any]) -> Iterator[Row]:
    """The steps on the most items until half of the base's rate."""
    base, direction = float(recovery.base().mean()), "none" if suffix else "up"
    of_row = fields | {"unit": "steps", "direction": direction}
    for source, which in SPLITS.items():
        items = recovery.units.most(source)
        if not items:
            continue
        metric, n = f"relearn_steps{which}{suffix}", len(recovery.samples("base"))
        if not base:
            yield Row(value=None, reason=NO_BASE_RATE, metric=metric, n=n, **of_row)
            continue
        steps = torch.tensor(recovery.units.steps(source, items))
        rates = torch.tensor(recovery.mean_rates(source, items), dtype=torch.float64)
        yield steps_row(steps, rates, SHARE * base, n, of_row | {"metric": metric})


def rate_rows(recovery: Recovery, suffix: str, fields: dict[str, Any]) -> Iterator[Row]:
    """The rates of the base, of the model as it is and after each training."""
    for key in recovery.units.keys:
        source, items, steps = key
        if source == "base" and suffix:
            continue
        direction = "none" if suffix or source == "base" else "down"
        shows = recovery.samples(*key)
        yield Row.of(
            wilson(int(shows.sum()), len(shows)),
            metric=f"relearned{suffix}:{label(source, items, steps)}",
            n=len(shows),
            unit="%",
            scale=100,
            direction=direction,
            **fields,
        )


def label(source: Source, items: int, steps: int) -> str:
    """What a rate is of."""
    names = {"base": "base", "model": "0:0"}
    return names.get(source, f"{source}:{items}:{steps}")


def area_violations(rows: Rows) -> Iterator[str]:
    """Violations of: areas follow from rates, and the excess is a difference of areas."""
    base = share_row(rows, "relearned:base")
    for metric, row in rows.items():
        name, _, key = metric.partition(":")
        if not name.startswith("recovery") or row.value is None or base is None or not base.value:
            continue
        curve = dict(_curve(rows, name.removeprefix("recovery"), key))
        if len(curve) > 1:
            rates = torch.tensor([curve[s] for s in sorted(curve)], dtype=torch.float64)
            expected = float(area((rates / base.value).clamp(max=1), sorted(curve)))
            if abs(expected - row.value) > TOLERANCE:
                yield f"{metric} is {row.value:.6g}, and its rates give {expected:.6g}"
    yield from _difference_violations(rows)


def _curve(rows: Rows, suffix: str, key: str) -> Iterator[tuple[int, float]]:
    """Steps and rates of the curve ``SPLIT:ITEMS``."""
    for metric in rows:
        name, _, rest = metric.partition(":")
        row = share_row(rows, metric)
        of_curve, _, steps = rest.rpartition(":")
        if name == f"relearned{suffix}" and row is not None and row.value is not None:
            if rest == "0:0":
                yield 0, row.value
            elif of_curve == key and steps.isdecimal():
                yield int(steps), row.value


def _difference_violations(rows: Rows) -> Iterator[str]:
    """Violations of: the excess is the area on the most items less the control's."""
    for source, which in SPLITS.items():
        metric = f"relearn_excess{which}"
        keys = [name.rpartition(":")[2] for name in rows if name.startswith(f"recovery:{source}:")]
        most = max((int(key) for key in keys if key.isdecimal()), default=0)
        names = (metric, f"recovery:{source}:{most}", f"recovery_control:{source}:{most}")
        values = [rows[name].value for name in names if name in rows]
        excess, own, other = values if len(values) == len(names) else (None, None, None)
        if excess is None or own is None or other is None:
            continue
        if abs(own - other - excess) > TOLERANCE:
            yield f"{metric} is {excess:.6g}, and the areas differ by {own - other:.6g}"


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """The area beyond the control's."""
    return [Relearning]
