"""Whether request, record and command of a submission are of one run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

from msgm_bench.api import Dataset, Method, Result
from msgm_bench.boards.protocols import settings_diff
from msgm_bench.errors import MsgmBenchError, RefusedError
from msgm_bench.evaluation.scoring import gate_stamp
from msgm_bench.experiment.plan import Plan, resolve
from msgm_bench.experiment.resolved_spec import ResolvedSpec
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.registry import registry
from msgm_bench.report.provenance import rerun_command
from msgm_bench.storage import error_summary
from msgm_bench.submissions.code import installed

SAME = ("dataset", "backbone", "method", "seed", "seeds", "conditional", "text")
STATED_ALONE = "of its options only the numbers that its request states are compared"
HERE: dict[str, Any] = {"device": "cpu", "compile": False, "precision": "fp32", "threads": None}


def check_request(spec: RunSpec, result: Result) -> list[str]:
    """Hold the record of a run against its request; notes on what could not be compared.

    Where the data are at hand the request is resolved, and every option of the record must be what
    it gives; the stamps must be those of the judge's gate. Elsewhere names, sizes and the options
    that the request states are compared. No path that it names is opened.

    Raises:
        RefusedError: They are of different runs.
    """
    _check_stated(spec, result)
    names = [("datasets", spec.dataset), ("backbones", spec.backbone), ("methods", spec.method)]
    if spec.model is not None or any(installed(*name) is None for name in names):
        return [STATED_ALONE]
    _check_command(spec, result)
    if not _is_self_contained(spec):
        return [STATED_ALONE]
    try:
        plan = resolve(spec.model_copy(update=HERE), download=False)
    except MsgmBenchError as error:
        return [f"its request cannot be resolved here, only what it states is compared: {error}"]
    ours, theirs = (
        record.model_dump(mode="json") for record in (ResolvedSpec.of(plan), result.spec)
    )
    for key, (now, then) in settings_diff(ours, theirs).items():
        raise RefusedError(
            f"its request makes another run: {key} is {now!r}, and its result says {then!r}",
            hint="an older version made it: run its command and submit the new result",
        )
    _check_stamps(plan, result)
    if result.provenance.get("dataset_fingerprint") != plan.loaded.fingerprint:
        return ["its data are other bytes than those here"]
    return []


def _check_stated(spec: RunSpec, result: Result) -> None:
    """Names, seeds, sizes and stated options are those of the record."""
    record = result.spec
    pairs: dict[str, tuple[Any, Any]] = {
        name: (getattr(spec, name), getattr(record, name)) for name in SAME
    }
    pairs["dataset_params"] = spec.dataset_params, record.dataset_params
    pairs |= {n: (getattr(spec, n), record.settings.get(n)) for n in ("steps", "samples")}
    if spec.preset is not None:
        pairs["preset"] = spec.preset, record.preset
    if spec.regime is not None and spec.regime in _regimes(spec.method, record.regime):
        pairs["regime"] = spec.regime, record.regime
    stated = {
        "params": (spec.params, record.params),
        "backbone_params": (spec.backbone_params, record.backbone_params),
        "training_params": (spec.training_params, record.settings.get("training", {})),
    }
    for field, (options, recorded) in stated.items():
        for key, value in options.items():
            if _is_plain(value) and key in recorded:
                pairs[f"{field}.{key}"] = value, recorded[key]
    for name, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise RefusedError(f"its request has {name} {ours!r}, and its result {theirs!r}")


def _check_command(spec: RunSpec, result: Result) -> None:
    """The command is that of the request, with or without the tasks that the run skipped."""
    skips = result.provenance.get("skipped", ())
    command = rerun_command(spec, [skip["name"] for skip in skips if skip["kind"] == "tasks"])
    if result.provenance.get("command") not in (command, rerun_command(spec)):
        raise RefusedError("its command is not that of its request", command)


def _regimes(method: str, recorded: str) -> tuple[str, ...]:
    """Regimes of a method; baselines have one, whatever a grid asks for."""
    cls = installed("methods", method)
    return (recorded,) if cls is None else tuple(cast(type[Method], cls).regimes)


def _is_plain(value: Any) -> bool:
    """Whether an option is stored as it is written."""
    return isinstance(value, bool | int | float)


def _is_self_contained(spec: RunSpec) -> bool:
    """Whether it needs no file but those that are installed."""
    if spec.base is not None:
        return False
    dataset = cast(type[Dataset], registry().entry("datasets", spec.dataset).cls)
    options = (spec.params, spec.backbone_params, spec.task_params, spec.metric_params)
    if any(_names_a_path(value) for value in (*options, spec.judge_params, spec.dataset_params)):
        return False
    try:
        made = dataset.create(spec.dataset_params)
        return not made.sources() and not made.places()
    except MsgmBenchError:
        return False


def _names_a_path(value: Any) -> bool:
    """Whether a text in ``value`` has a separator, or is the name of something here."""
    if isinstance(value, Mapping):
        return any(_names_a_path(part) for part in (*value.keys(), *value.values()))
    if isinstance(value, list | tuple):
        return any(_names_a_path(part) for part in value)
    if not isinstance(value, str):
        return False
    return any(mark in value for mark in "/\\~\0") or os.path.exists(value)


def _check_stamps(plan: Plan, result: Result) -> None:
    """Rows that rest on the judge are stamped where the accuracy beside them misses its gate."""
    judge = plan.evaluation.judge
    judge.report = result.provenance.get("judge", {})
    try:
        quality, stamp = judge.quality(plan.targets), gate_stamp(judge, plan.targets)
    except Exception as error:
        raise RefusedError(f"its judge's report says nothing: {error_summary(error)}") from error
    if quality is not None and not 0 <= quality <= 1:
        raise RefusedError(f"its judge has the {judge.criterion} {quality}", "0 to 1")
    for row in result.metrics:
        rests = row.value is not None and "judge" in result.protocols[row.protocol].settings
        expected = stamp if rests else None
        if row.stamp != expected:
            raise RefusedError(
                f"{row.metric} on {row.split} has the stamp {str(row.stamp)[:200]!r}, "
                f"and {expected!r} follows from its judge"
            )
