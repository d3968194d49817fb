"""A result as a record of Every Eval Ever, the shared schema for results of evaluations.

Evaluations of many programs are collected in it (https://github.com/evaleval/every_eval_ever).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgm_bench.api import Result, Row
from msgm_bench.api.result import ProtocolRecord
from msgm_bench.errors import UsageError
from msgm_bench.report.stated_command import stated_command
from msgm_bench.storage import path_part

SCHEMA_VERSION = "0.3.0"
COLLECTION = "msgm-bench"
RESERVED = ("data", "unknown")  # names of developers that the datastore refuses
LEVEL = 0.95  # of all intervals
PERCENT = "%"


def record_path(developer: str, model: str, result: Result) -> Path:
    """The place of a record in the datastore, the same for the same result.

    Raises:
        UsageError: ``developer`` is no name of a folder.
    """
    name = developer.lower()
    if not name or path_part(name) != name or name in RESERVED:
        raise UsageError(
            f"developer {developer!r}",
            "a name such as one on the Hugging Face hub: letters, numerals, '-', '_', '.'",
        )
    number = uuid.UUID(result.digest[:32], version=4)
    return Path("data", COLLECTION, developer, model, f"{number}.json")


def record(developer: str, model: str, result: Result, created: float) -> dict[str, Any]:
    """The record of a result, with every value that was measured.

    Args:
        developer: Who trained and scored the model.
        model: Its name.
        result: The result.
        created: When the record is made, in seconds since 1970.
    """
    provenance = result.provenance
    versions = provenance.get("versions", {})
    unchanged = result.spec.base is not None and not result.spec.settings.get("training")
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{COLLECTION}/{developer}/{model}/{result.digest[:16]}",
        "retrieved_timestamp": repr(created),
        "source_metadata": {
            "source_name": COLLECTION,
            "source_type": "evaluation_run",
            "source_organization_name": developer,
            "evaluator_relationship": "third_party" if unchanged else "first_party",
        },
        "eval_library": {
            "name": "msgm-bench",
            "version": versions.get("msgm-bench", "unknown"),
            "additional_details": _texts(
                {
                    "result_schema": result.schema_,
                    "result_digest": result.digest,
                    "git_commit": provenance.get("git_commit"),
                    "code": provenance.get("code"),
                    "versions": versions,
                }
            ),
        },
        "model_info": _model(developer, model, result),
        "evaluation_results": [_evaluation(row, result) for row in _measured(result)],
    }


def _measured(result: Result) -> list[Row]:
    return [row for row in result.metrics if row.value is not None]


def _model(developer: str, model: str, result: Result) -> dict[str, Any]:
    spec = result.spec
    plugins = ("method", "params", "backbone", "backbone_params", "dataset", "dataset_params")
    names = (*plugins, "forget", "regime", "preset", "seed", "seeds", "base")
    facts = {name: getattr(spec, name) for name in names}
    return {
        "name": model,
        "id": f"{developer}/{model}",
        "developer": developer,
        "inference_engine": {
            "name": "msgm-bench",
            "version": result.provenance.get("versions", {}).get("msgm-bench", "unknown"),
        },
        "additional_details": {
            "deployment_type": "self_deployed",
            "model_availability": "unknown",
            **_texts({**facts, "track": spec.track, "training": spec.settings.get("training")}),
        },
    }


def _evaluation(row: Row, result: Result) -> dict[str, Any]:
    spec = result.spec
    protocol = result.protocols[row.protocol]
    tasks = spec.settings.get("tasks", {})
    return {
        "evaluation_result_id": "/".join((row.task, row.metric, row.split, row.protocol)),
        "evaluation_name": f"{COLLECTION}.{spec.dataset}.{row.task}.{row.split}",
        "source_data": {
            "dataset_name": spec.dataset,
            "source_type": "other",
            "additional_details": _texts(
                {
                    "forget": spec.forget,
                    "fingerprint": result.provenance.get("dataset_fingerprint"),
                    "options": spec.dataset_params,
                }
            ),
        },
        "metric_config": _metric(row, protocol),
        "score_details": _score(row),
        "generation_config": {
            "generation_args": {"execution_command": stated_command(result)},
            "additional_details": _texts(tasks.get(row.task, {})),
        },
    }


def _metric(row: Row, protocol: ProtocolRecord) -> dict[str, Any]:
    """What is measured; ``lower_is_better`` has to be said of companions, too."""
    low, high = _bounds(row)
    return {
        "evaluation_description": f"{row.metric} of {row.task} on {row.split}",
        "metric_id": f"{COLLECTION}.{row.metric}",
        "metric_name": row.metric,
        "metric_unit": "percent" if row.unit == PERCENT else row.unit,
        "metric_parameters": _scalars(protocol.settings),
        "lower_is_better": row.direction == "down",
        "score_type": "continuous",
        "min_score": low,
        "max_score": high,
        "additional_details": _texts(
            {
                "direction": row.direction,
                "split": row.split,
                "protocol": row.protocol,
                "protocol_hash": protocol.hash,
            }
        ),
    }


def _bounds(row: Row) -> tuple[float | str, float | str]:
    """Smallest and largest possible value; of a share 0 and 100."""
    values = [value for value in (row.value, row.low, row.high) if value is not None]
    if row.unit == PERCENT and all(0 <= value <= 100 for value in values):
        return 0.0, 100.0
    return "-Infinity", "Infinity"


def _score(row: Row) -> dict[str, Any]:
    uncertainty: dict[str, Any] = {"num_samples": row.n}
    if row.low is not None and row.high is not None:
        uncertainty["confidence_interval"] = {
            "lower": row.low,
            "upper": row.high,
            "confidence_level": LEVEL,
        }
    details = _texts({"remark": row.reason, "stamp": row.stamp})
    return {"score": row.value, "uncertainty": uncertainty, "details": details}


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as texts, JSON where they are none; without those that are null or empty."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
        if value not in (None, "", {}, [])
    }


def _scalars(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values that are no scalars as JSON."""
    return {
        name: value if value is None or isinstance(value, str | int | float) else json.dumps(value)
        for name, value in values.items()
    }
