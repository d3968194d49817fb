"""The steps from the model to the number: artifact, judge, reference, metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgm_bench.api import Result, Row
from msgm_bench.experiment.evaluation_stages import base_name, control_name
from msgm_bench.experiment.graph import CONTROL
from msgm_bench.explanation.plugins import citation, code_text, metric_class, paragraphs
from msgm_bench.explanation.stages import stage_facts
from msgm_bench.explanation.step import (
    Step,
    facts,
    mapping,
    number,
    options_text,
    value_text,
)
from msgm_bench.explanation.training_steps import Stages

MEASURE = "measure"


def measurement_steps(result: Result, row: Row, stages: Stages) -> Iterator[Step]:
    """Artifact, judge, reference and metric behind a row; no judge where none has a say."""
    settings = result.protocols[row.protocol].settings
    yield _artifact(result, row, settings, stages)
    if "judge" in settings:
        yield _judge(result, stages)
    yield from _control(row, stages)
    yield from _reference(row, stages)
    yield _metric(result, row, settings, stages)


def _artifact(result: Result, row: Row, settings: Mapping[str, Any], stages: Stages) -> Step:
    """What was drawn from the model: the task's options as the protocol has them, else the run's.

    The judge's own numbers of items are in the rows.
    """
    tasks = mapping(result.spec.settings.get("tasks"))
    options = mapping(settings.get(row.task)) or mapping(tasks.get(row.task))
    texts = facts(
        options=options_text(options),
        computed=_runtime(result),
        code=code_text(result, "tasks", row.task),
    )
    summary = f"{row.task}, sampling seed {result.spec.seeds.get('sample', result.spec.seed)}"
    return Step("Artifact", summary, (*texts, *stage_facts(stages, f"draw {row.task}")))


def _runtime(result: Result) -> str:
    """Device, precision, threads and torch."""
    hardware = mapping(result.provenance.get("hardware"))
    names = ("device", "precision", "threads", "torch")
    return ", ".join(f"{name} {value_text(hardware[name])}" for name in names if name in hardware)


def _judge(result: Result, stages: Stages) -> Step:
    """The judge with what it reports of itself on held-out data."""
    judge = mapping(result.spec.settings.get("judge"))
    name, gate = str(judge.get("name", "unknown")), number(judge.get("gate"))
    options = {key: value for key, value in judge.items() if key not in ("name", "gate")}
    texts = facts(
        quality=_quality(mapping(result.provenance.get("judge"))),
        gate=""
        if not gate
        else f"{100 * gate:g} %: rows that rest on a judge below it are stamped",
        options=options_text(options),
        code=code_text(result, "judges", name),
    )
    return Step("Judge", name, (*texts, *stage_facts(stages, f"fit judge {name}")))


def _quality(report: Mapping[str, Any]) -> str:
    accuracy, recognised = number(report.get("accuracy")), number(report.get("recognised"))
    parts = [] if accuracy is None else [f"accuracy {100 * accuracy:.4g} %"]
    parts += [] if recognised is None else [f"recognises {100 * recognised:.4g} %"]
    items = number(report.get("items"))
    return ", ".join(parts) + ("" if items is None else f" of {items:,.0f} held-out items")


def _control(row: Row, stages: Stages) -> Iterator[Step]:
    """Models beside the run's own from which the task draws, too."""
    kinds = {
        "Control": ("a model that never saw D_f, for comparison", control_name(row.task)),
        "Comparison": ("the base model, for comparison", base_name(row.task)),
    }
    for title, (summary, name) in kinds.items():
        if name in stages:
            yield Step(title, summary, stage_facts(stages, CONTROL, name))


def _reference(row: Row, stages: Stages) -> Iterator[Step]:
    cls = metric_class(row)
    name = "" if cls is None else f"refer {cls.name}"
    if name in stages:
        summary = "what the metric needs of data and judge alone, shared by all models"
        yield Step("Reference", summary, stage_facts(stages, name))


def _metric(result: Result, row: Row, settings: Mapping[str, Any], stages: Stages) -> Step:
    """Formula, protocol and settings; those of task and judge are in their own steps."""
    cls = metric_class(row)
    own = {key: value for key, value in settings.items() if key not in (row.task, "judge", "data")}
    words = ["unknown: no installed metric has this protocol"] if cls is None else paragraphs(cls)
    formula = [("" if i else "formula", text) for i, text in enumerate(words)]
    texts = facts(
        source="" if cls is None else citation("metrics", cls.name),
        protocol=f"{row.protocol}, hash {result.protocols[row.protocol].hash}",
        settings=options_text(own),
        code="" if cls is None else code_text(result, "metrics", cls.name),
    )
    summary = row.protocol if cls is None else f"{cls.name}, by the protocol {row.protocol}"
    return Step("Metric", summary, (*formula, *texts, *stage_facts(stages, MEASURE)))
