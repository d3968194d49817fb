"""Run cells: every stage once, the result last, nothing lost on the way."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from msgm_bench.api import Executor, Result, Row, SpecRecord
from msgm_bench.cache.cache import Cache, Report, Stage, load_json
from msgm_bench.cache.entry import Entry
from msgm_bench.errors import StorageError
from msgm_bench.experiment import judge
from msgm_bench.experiment.components import blind
from msgm_bench.experiment.graph import JUDGE_REPORT, ROWS, Graph, graph
from msgm_bench.experiment.grid import Job, by_cell, reason_of
from msgm_bench.experiment.plan import Plan, output_folder, plan
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.experiment.trackers import Choice, check_trackers, tracking
from msgm_bench.registry import registry
from msgm_bench.report import run_folder
from msgm_bench.report.provenance import provenance
from msgm_bench.storage import read_json, storage_errors, sweep

log = logging.getLogger(__name__)


def run(spec: RunSpec, out: str | Path = "runs") -> Result:
    """Train, unlearn, score; go on where an earlier attempt stopped.

    Args:
        spec: The cell.
        out: Folder in which the run folder is made.

    Returns:
        What ``result.json`` holds.

    Raises:
        UsageError: The request is wrong; nothing was trained.
        MsgmBenchError: The cell failed; what was computed is kept.
    """
    return _run_planned(plan(spec), output_folder(out))


def run_grid(
    specs: Sequence[RunSpec],
    out: str | Path = "runs",
    executor: Executor | None = None,
    trackers: Sequence[Choice] = (),
) -> list[Result]:
    """Run several cells; one that fails leaves a failed result and the others go on.

    Args:
        specs: The cells.
        out: Folder in which the run folders are made.
        executor: Runs the cells; one after the other without it.
        trackers: Name and options of the trackers that hear of them, in workers too.

    Raises:
        UsageError: Any of the requests is wrong; nothing was trained.
    """
    check_trackers(trackers)
    plans = [plan(spec) for spec in specs]
    folder = output_folder(out)
    if executor is None:
        with tracking(trackers):
            return [_run_or_fail(planned, folder) for planned in plans]
    job = Job(_run_or_fail, folder, tuple(trackers))
    outcomes, reasons = by_cell(executor, job, specs)
    results = []
    with tracking(trackers):  # they hear here what a worker could not say any more
        for planned in plans:
            name = planned.spec.folder
            outcome = outcomes.get(name) or _earlier(folder / name, graph(planned)) or next(reasons)
            if isinstance(outcome, str):
                outcome = _failed(planned, folder, outcome)
            results.append(outcome)
    return results


@dataclass(frozen=True)
class Preview:
    """What running a cell would do.

    Attributes:
        stages: Its stages, and whether each is cached.
        left_out: Tasks and metrics that do not apply, and why.
        blind: Metrics whose values will be missing, and why.
        base: The base model from elsewhere; empty where it is trained here.
    """

    stages: Sequence[tuple[Stage, bool]]
    left_out: Mapping[str, str]
    blind: Mapping[str, str]
    base: str = ""


def dry_run(spec: RunSpec) -> Preview:
    """Look at a cell without running it; trains nothing and downloads nothing.

    Raises:
        UsageError: The request is wrong.
        StorageError: Data or a base model are not on this machine.
    """
    cache, planned = Cache(), plan(spec, download=False)
    stages = graph(planned).stages.values()
    return Preview(
        [(stage, cache.find(stage.key) is not None) for stage in stages],
        {**planned.left_out, **planned.unmeasured},
        blind(planned.metrics, planned.judge),
        "" if planned.given is None else str(planned.given),
    )


def _run_or_fail(planned: Plan, out: Path) -> Result:
    try:
        return _run_planned(planned, out)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - one cell must not take the grid down
        return _failed(planned, out, reason_of(error))


def _run_planned(planned: Plan, out: Path) -> Result:
    hook = registry().manager.hook
    target = out / planned.spec.folder
    record = spec_record(planned)
    archive_other_base(target, record.base)
    hook.run_started(spec=record.model_dump(), folder=str(target))
    if planned.skip is not None:
        result = Result(status="skipped", reason=planned.skip, spec=record)
        return _finish(target, result)
    cache, stages = Cache(), graph(planned)
    cache.reserve(stages.stages.values())
    known: dict[str, Entry] = {}
    entries = {name: run_stage(stage, cache, known) for name, stage in stages.stages.items()}
    earlier = _earlier(target, stages)
    if earlier is not None:
        sweep(target / run_folder.RESULT)  # a kill right after it was written left its litter
        hook.run_ended(result=earlier, folder=str(target))
        return earlier
    result = _result(planned, record, entries, stages)
    run_folder.write(target, planned, stages, entries, result)
    return _finish(target, result)


def run_stage(stage: Stage, cache: Cache, known: dict[str, Entry]) -> Entry:
    """The stage's entry, computed with all that it needs where it is not cached.

    ``known`` maps keys to the entries that this run has seen; each is announced once.
    """
    if stage.key in known:
        return known[stage.key]
    hook = registry().manager.hook
    entry = cache.find(stage.key)
    cached = entry is not None
    started = time.monotonic()
    if entry is None:
        needs = {name: run_stage(need, cache, known).path for name, need in stage.needs.items()}
        started = time.monotonic()
        hook.stage_started(stage=stage.name, key=stage.key, total=stage.units, done=0)
        entry = cache.compute(stage, needs, _reporter(stage))
    seconds = time.monotonic() - started
    hook.stage_ended(stage=stage.name, key=stage.key, seconds=seconds, cached=cached)
    known[stage.key] = entry
    return entry


def _reporter(stage: Stage) -> Report:
    hook = registry().manager.hook

    def report(step: int, total: int, values: Any, part: str = "", /) -> None:
        name = f"{stage.name}: {part}" if part else stage.name
        hook.step_ended(stage=name, step=step, total=total, values=values)

    return report


def _result(planned: Plan, record: SpecRecord, entries: dict[str, Entry], stages: Graph) -> Result:
    measured = load_json(entries[stages.rows.name].path, ROWS)
    judge = load_json(entries[stages.judge.name].path, JUDGE_REPORT)
    origin = provenance(planned, entries) | {"judge": judge}
    rows = [Row.model_validate(row) for row in measured["rows"]]
    for row in rows:
        registry().manager.hook.metric_computed(row=row)
    return Result(
        status="ok", spec=record, metrics=rows, protocols=measured["protocols"], provenance=origin
    )


def spec_record(planned: Plan) -> SpecRecord:
    """The cell with every default resolved."""
    spec, trained = planned.spec, planned.trained
    settings = {
        "training": trained.budget.model_dump(mode="json") if trained else {},
        "pass_items": trained.pass_items if trained else None,
        "tasks": {n: t.options.model_dump(mode="json") for n, t in planned.tasks.items()},
        "judge": judge.record(planned.judge),
        "steps": spec.steps,
        "samples": spec.samples,
    }
    classes = planned.data.classes
    return SpecRecord(
        dataset=spec.dataset,
        forget=[classes[target] for target in planned.targets],
        backbone=spec.backbone,
        method=spec.method,
        params=trained.method.options.model_dump(mode="json") if trained else {},
        regime=trained.regime if trained else "external",
        preset=planned.preset,
        seed=spec.seed,
        seeds=spec.seeds,
        backbone_params=planned.backbone.options.model_dump(mode="json"),
        dataset_params=spec.dataset_params,
        settings=settings,
        conditional=spec.conditional,
        base=planned.given.sha256 if planned.given else None,
    )


def archive_other_base(target: Path, base: str | None) -> None:
    """Rename the folder of a run from another base, which lay at the same path then.

    An older run of that other base under the new name gives way: it is the same cell.
    """
    found = read_result(target / run_folder.RESULT)
    if found is not None and found.spec.base != base:
        aside = target.with_name(f"{target.name}-{(found.spec.base or '')[:8]}")
        with storage_errors(target):
            if aside.exists():
                shutil.rmtree(aside)
            target.rename(aside)


def _earlier(target: Path, stages: Graph) -> Result | None:
    """The result that is already there, if it is of these very stages."""
    found = read_result(target / run_folder.RESULT)
    if found is None or found.status != "ok":
        return None
    told = found.provenance.get("stages", {}).get(stages.rows.name)
    return found if told == stages.rows.key else None


def read_result(path: Path) -> Result | None:
    """A valid ``result.json``, or None."""
    try:
        return Result.model_validate(read_json(path))
    except (StorageError, ValidationError):
        return None


def _finish(target: Path, result: Result) -> Result:
    run_folder.write_result(target, result)
    registry().manager.hook.run_ended(result=result, folder=str(target))
    return result


def _failed(planned: Plan, out: Path, reason: str) -> Result:
    """A result that says why; where it cannot be stored, the log says why not."""
    target = out / planned.spec.folder
    result = Result(status="failed", reason=reason, spec=spec_record(planned))
    hook = registry().manager.hook
    with _logged_errors(target.name):
        _store_failure(planned, target, result)
    with _logged_errors(target.name):
        hook.run_failed(spec=cast(Any, result.spec.model_dump()), folder=str(target), reason=reason)
    return result


@contextlib.contextmanager
def _logged_errors(name: str) -> Iterator[None]:
    """Log what a failure brings with it, and go on: one cell must not take the grid down."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the cell has failed already, with its reason
        log.error("%s: %s", name, reason_of(error))


def _store_failure(planned: Plan, target: Path, result: Result) -> None:
    """Write a failed result, with the log of the training that stopped.

    A good result of an earlier run of the same command stays: it is worth more.
    """
    earlier = read_result(target / run_folder.RESULT)
    if earlier is not None and earlier.status == "ok":
        log.warning("the result of an earlier run stays in %s", target.name)
        return
    if planned.trained is not None:
        run_folder.copy_log(target, Cache().partial(graph(planned).model.key))
    run_folder.write_result(target, result)
