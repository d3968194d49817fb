"""Values of a result as a Hugging Face model card has them: its ``model-index``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from msgm_bench.api import Result, Row, Track

TASK_TYPES: Mapping[Track, str] = {  # the Hub's names of tasks; it has none for classes
    "unconditional": "unconditional-image-generation",
    "class": "class-conditional-image-generation",
    "text": "text-to-image",
}
PIPELINES = ("unconditional-image-generation", "text-to-image")
TAGS = ("msgm-bench", "machine-unlearning", "diffusion")


def card_data(name: str, result: Result, library: str | None = None) -> ModelCardData:
    """The metadata of a model card: tags and the ``model-index``.

    Args:
        name: The model's name.
        result: Its result.
        library: The library that loads the model, as the Hub names it.
    """
    task_type = TASK_TYPES[result.spec.track]
    return ModelCardData(
        model_name=name,
        library_name=library,
        pipeline_tag=task_type if task_type in PIPELINES else None,
        tags=[*TAGS, result.spec.method],
        eval_results=eval_results(result),
    )


def front_matter(data: ModelCardData) -> str:
    """The metadata as the first lines of a model card."""
    return f"---\n{data.to_yaml()}\n---\n"


def eval_results(result: Result) -> list[EvalResult]:
    """The values that were measured, split by split, as the Hub groups them.

    The dataset is that of the run, its configuration what is to be forgotten and its revision the
    fingerprint of the data. A metric's configuration is the protocol; its arguments are task, unit,
    direction, number of items, and the interval and stamp where there are some.
    """
    spec = result.spec
    forget = ", ".join(spec.forget)
    splits = list(dict.fromkeys(row.split for row in result.metrics))
    rows = [row for row in result.metrics if row.value is not None]
    return [
        EvalResult(
            task_type=TASK_TYPES[spec.track],
            task_name="Unlearning",
            dataset_type=spec.dataset,
            dataset_name=f"{spec.dataset}, forget {forget}",
            dataset_config=forget,
            dataset_split=row.split,
            dataset_revision=result.provenance.get("dataset_fingerprint"),
            metric_type=row.metric,
            metric_name=f"{row.metric} ({row.task})",
            metric_value=row.value,
            metric_config=row.protocol,
            metric_args=_arguments(row),
        )
        for row in sorted(rows, key=lambda row: splits.index(row.split))
    ]


def _arguments(row: Row) -> dict[str, Any]:
    interval = None if row.low is None or row.high is None else [row.low, row.high]
    arguments = {
        "task": row.task,
        "unit": row.unit,
        "better": row.direction,
        "n": row.n,
        "interval_95": interval,
        "stamp": row.stamp,
    }
    return {name: value for name, value in arguments.items() if value is not None}
