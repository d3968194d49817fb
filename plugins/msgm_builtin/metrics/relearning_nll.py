"""How likely held-out items of D_f become while a model learns D_f again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from msgm_bench import (
    Artifact,
    EvalContext,
    Evidence,
    Metric,
    MetricProtocol,
    Model,
    ModelContext,
    Row,
    Task,
    bits_per_dim,
    hookimpl,
)
from msgm_builtin.metrics.nll import mean_row
from msgm_builtin.metrics.recovery import Units, unit_tensor
from msgm_builtin.metrics.relearning import NO_CONTROL, label
from msgm_builtin.tasks.likelihood import Likelihood
from msgm_builtin.tasks.relearning import Relearning

DRAWING = ("draws", "guidance", "sampler", "nfe", "sampler_options")  # options of samples


class RelearningNLL(Metric):
    """NLL of held-out items of D_f after training, less that of a model that never saw D_f.

    ``relearn_nll_excess`` is the mean over held-out items of NLL(control) - NLL(model) after the
    most steps on the most items of D_f, in bits/dim: above 0 for a model that then knows D_f better
    than one that never saw it. Each item is compared with itself, dequantised alike and with the
    same probes. Companions: the means (``relearn_nll:SPLIT:ITEMS:STEPS``, ``relearn_nll:0:0`` of
    the model as it is, ``relearn_nll:base``), and those of the control. Null where any integration
    failed.
    """

    name = "relearn_nll"
    citation = "Song et al. 2021, arXiv:2011.13456, equation 39"
    tasks = ("relearning",)
    protocols = ("relearning/nll",)

    def skip(self, context: EvalContext, model: Model) -> str | None:
        """Models without a density of the data."""
        return Likelihood.create().skip(model)

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The trainings, the solver and the unit."""
        assert isinstance(task, Relearning)
        settings = task.protocol(context)
        for name in DRAWING:
            settings.pop(name, None)
        solver = task.likelihood(context.model).protocol(context)
        del solver["count"]
        codec = context.model.codec
        units = {"unit": codec.unit, "offset": codec.bits_offset, "data": context.data.protocol}
        whole = {task.name: settings, "likelihood": solver, **units}
        classes = "" if context.model.conditioning is None else "/true-class"
        return MetricProtocol(name=f"{self.protocols[0]}{classes}", version=1, settings=whole)

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """The difference and the means."""
        rows = self.recompute(self.gather(context, task, artifact))
        if rows:
            return rows
        reason = "no held-out item of D_f, or relearning.nll_items is 0"
        protocol = self.protocol(context, task)
        fields = headline(protocol.settings) | {"task": task.name, "protocol": protocol.id}
        return [Row(value=None, n=0, reason=reason, **fields)]

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """NLL of each item in nats, under each model and each of the control's."""
        tensors: dict[str, Tensor] = {}
        for name, drawn in (("model", artifact), ("control", context.control)):
            if "nats" in drawn:
                tensors[name] = drawn["nats"].double()
                tensors[f"{name}_units"] = unit_tensor(drawn)
        return tensors | ({"dim": torch.tensor(context.model.dim)} if tensors else {})

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The rows of ``measure`` from the NLL of each item."""
        if "model" not in evidence:
            return []
        model = Course.of(evidence, "model")
        control = Course.of(evidence, "control") if "control" in evidence else None
        return [
            excess_row(model, control, evidence),
            *mean_rows(model, "", evidence),
            *([] if control is None else mean_rows(control, "_control", evidence)),
        ]


class Course:
    """NLL of held-out items under each unit.

    Args:
        units: The units.
        bits: NLL in bits/dim ``[U, items]``.
    """

    def __init__(self, units: Units, bits: Tensor) -> None:
        self.units, self.bits = units, bits

    @classmethod
    def of(cls, evidence: Evidence, name: str) -> Course:
        """That of the artifact ``name``."""
        nats, offset = evidence.numbers(name, 2), evidence.settings["offset"]
        bits = bits_per_dim(nats, evidence.count("dim"), offset)
        return cls(Units.of(evidence, f"{name}_units"), bits)

    def items(self, *key: Any) -> Tensor:
        """NLL of the items of all restarts ``[R items]``."""
        return self.bits[self.units.positions(*key)].flatten()

    def last(self) -> Tensor:
        """NLL after the most steps on the most items of D_f."""
        most = self.units.most("forget")
        return self.items("forget", most, self.units.steps("forget", most)[-1])


def headline(settings: Any) -> dict[str, Any]:
    """Fields of the headline."""
    return {
        "metric": "relearn_nll_excess",
        "split": "forget",
        "unit": settings["unit"],
        "direction": "down",
    }


def excess_row(model: Course, control: Course | None, evidence: Evidence) -> Row:
    """The difference to the control after the most steps, item by item."""
    fields = evidence.common | headline(evidence.settings)
    after = model.last()
    if control is None:
        return Row(value=None, n=len(after), reason=NO_CONTROL, **fields)
    return mean_row((control.last() - after).numpy(), **fields)


def mean_rows(course: Course, suffix: str, evidence: Evidence) -> Iterator[Row]:
    """The mean NLL of the base, of the model as it is and after each training."""
    for key in course.units.keys:
        if key[0] == "base" and suffix:
            continue
        yield mean_row(
            course.items(*key).numpy(),
            metric=f"relearn_nll{suffix}:{label(*key)}",
            split="forget",
            unit=evidence.settings["unit"],
            direction="none" if suffix or key[0] == "base" else "up",
            **evidence.common,
        )


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """The NLL while learning again."""
    return [RelearningNLL]
