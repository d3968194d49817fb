"""Run a plan: every stage once, the run folder, and the result last of all."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from msgm_bench.api import Result, Row, SpecRecord
from msgm_bench.api.progress import ProgressCallback
from msgm_bench.cache.cache import Cache, load_json
from msgm_bench.cache.entry import Entry
from msgm_bench.cache.stage import Stage
from msgm_bench.errors import MsgmBenchError
from msgm_bench.experiment import shared_stages
from msgm_bench.experiment.evaluation_stages import JUDGE, JUDGE_REPORT, ROWS
from msgm_bench.experiment.graph import Graph, build_graph
from msgm_bench.experiment.grid import failure_reason
from msgm_bench.experiment.plan import Plan
from msgm_bench.experiment.resolved_spec import ResolvedSpec
from msgm_bench.experiment.stored_result import RESULT, find_result
from msgm_bench.registry import registry
from msgm_bench.report import run_folder
from msgm_bench.report.provenance import provenance
from msgm_bench.storage import storage_errors, sweep

log = logging.getLogger(__name__)


def run_or_fail(plan: Plan, out: Path) -> Result:
    """The result of a run, a failed one where it raises."""
    try:
        return run_plan(plan, out)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - one run must not take the grid down
        return store_failed(plan, out, failure_reason(error))


def run_plan(plan: Plan, out: Path) -> Result:
    """Run the stages of a plan, then write its run folder, the result last."""
    hook = registry().manager.hook
    target = out / plan.spec.folder
    spec = announce_run(plan, target)
    if plan.skipped is not None:
        return _finish(target, Result(status="skipped", reason=plan.skipped.reason, spec=spec))
    cache, graph = shared_stages.shared_cache(plan.spec), build_graph(plan)
    cache.reserve(graph.stages.values())
    known: dict[str, Entry] = {}
    titles = graph.titles
    entries = {name: run_stage(stage, cache, known, titles) for name, stage in graph.stages.items()}
    stored = stored_result(target, graph)
    if stored is not None:
        sweep(target / RESULT)  # a kill right after it was written left its litter
        hook.run_ended(result=stored, folder=str(target))
        return stored
    result = _result(plan, spec, entries, graph)
    run_folder.write(target, plan, graph, entries, result)
    return _finish(target, result)


def run_named_stage(plan: Plan, out: Path, name: str) -> None:
    """Compute one stage of a run, which resumes afterwards.

    Raises:
        MsgmBenchError: The run has no such stage here: it was planned elsewhere by other code.
    """
    graph = build_graph(plan)
    stages = graph.stages
    if name not in stages:
        raise MsgmBenchError(
            f"the run has no stage {name!r} in this worker",
            ", ".join(stages),
            "install the same version of msgm-bench and its plugins everywhere",
        )
    announce_run(plan, out / plan.spec.folder)
    run_stage(stages[name], Cache(), {}, graph.titles)


def announce_run(plan: Plan, target: Path) -> SpecRecord:
    """Announce a run, whose folder is not another base's any more; its resolved request."""
    spec = ResolvedSpec.of(plan)
    archive_other_base(target, spec.base)
    registry().manager.hook.run_started(spec=spec.model_dump(), folder=str(target))
    return spec


def run_stage(
    stage: Stage, cache: Cache, known: dict[str, Entry], titles: Mapping[str, str] | None = None
) -> Entry:
    """The stage's entry, computed with all that it needs where it is not cached.

    Args:
        stage: The stage.
        cache: Where it is, or is put.
        known: The entries that this run has seen, by key; each is announced once.
        titles: Names under which stages are announced, by key; else their own.
    """
    if stage.key in known:
        return known[stage.key]
    hook, listed = registry().manager.hook, (titles or {}).get(stage.key, stage.name)
    entry = cache.find(stage.key)
    cached, started = entry is not None, time.monotonic()
    if entry is None:
        needs = {k: run_stage(v, cache, known, titles).path for k, v in stage.needs.items()}
        started = time.monotonic()
        hook.stage_started(stage=listed, key=stage.key, total=stage.units, done=0)
        entry = cache.compute(stage, needs, _announce_progress(listed))
    seconds = time.monotonic() - started
    hook.stage_ended(stage=listed, key=stage.key, seconds=seconds, cached=cached)
    known[stage.key] = entry
    return entry


def _announce_progress(listed: str) -> ProgressCallback:
    """A callback that announces the progress of a stage of that name to all plugins."""
    hook = registry().manager.hook

    def report(done: int, total: int, values: Any, part: str = "", /) -> None:
        name = f"{listed}: {part}" if part else listed
        hook.step_ended(stage=name, step=done, total=total, values=values)

    return report


def _result(plan: Plan, spec: SpecRecord, entries: dict[str, Entry], graph: Graph) -> Result:
    """The result of stages that are all done."""
    scores = load_json(entries[graph.rows.name].path, ROWS)
    fitted = entries[graph.judge.name]
    judge = load_json(fitted.path, JUDGE_REPORT) | {"state": fitted.record.files[JUDGE].sha256}
    rows = [Row.model_validate(row) for row in scores["rows"]]
    for row in rows:
        registry().manager.hook.metric_computed(row=row)
    return Result(
        status="ok",
        spec=spec,
        metrics=rows,
        protocols=scores["protocols"],
        provenance=provenance(plan, entries) | {"judge": judge},
    )


def archive_other_base(target: Path, base: str | None) -> None:
    """Rename the folder of a run from another base, which lay at the same path then.

    An older run of that other base under the new name gives way: it is the same run.
    """
    stored = find_result(target)
    if stored is not None and stored.spec.base != base:
        archive = target.with_name(f"{target.name}-{(stored.spec.base or '')[:8]}")
        with storage_errors(target):
            if archive.exists():
                shutil.rmtree(archive)
            target.rename(archive)


def stored_result(target: Path, graph: Graph) -> Result | None:
    """The result in the run folder, if it is of these very stages and nothing is left to do."""
    stored = find_result(target)
    if stored is None or stored.status != "ok":
        return None
    if graph.recording is not None and not run_folder.has_recording(target):
        return None
    key = stored.provenance.get("stages", {}).get(graph.rows.name)
    return stored if key == graph.rows.key else None


def _finish(target: Path, result: Result) -> Result:
    """Write the result, last of all, and announce it."""
    run_folder.write_result(target, result)
    registry().manager.hook.run_ended(result=result, folder=str(target))
    return result


def store_failed(plan: Plan, out: Path, reason: str) -> Result:
    """A failed result with its reason; where it cannot be stored, the log says why not."""
    target = out / plan.spec.folder
    result = Result(status="failed", reason=reason, spec=ResolvedSpec.of(plan))
    hook = registry().manager.hook
    with _logged_errors(target.name):
        _store_failure(plan, target, result)
    with _logged_errors(target.name):
        hook.run_failed(spec=cast(Any, result.spec.model_dump()), folder=str(target), reason=reason)
    return result


@contextlib.contextmanager
def _logged_errors(name: str) -> Iterator[None]:
    """Log errors of storing a failure, and go on: one run must not take the grid down."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the run has failed already, with its reason
        log.error("%s: %s", name, failure_reason(error))


def _store_failure(plan: Plan, target: Path, result: Result) -> None:
    """Write a failed result, with the log of the training that stopped.

    A good result of an earlier run of the same command stays: it is worth more.
    """
    stored = find_result(target)
    if stored is not None and stored.status == "ok":
        log.warning("the result of an earlier run stays in %s", target.name)
        return
    if plan.training is not None:
        graph = build_graph(plan)
        stage = graph.model if graph.recording is None else graph.recording
        run_folder.copy_log(target, Cache().partial(stage.key))
    run_folder.write_result(target, result)
