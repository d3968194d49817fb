"""Run an experiment or a grid of them: every stage once, the result last, nothing lost."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from msgm_bench.api import Executor, Result, Row, SpecRecord
from msgm_bench.api.progress import ProgressCallback
from msgm_bench.cache.cache import Cache, load_json
from msgm_bench.cache.entry import Entry
from msgm_bench.cache.stage import Stage
from msgm_bench.experiment import shared_stages
from msgm_bench.experiment.evaluation_plan import null_metrics
from msgm_bench.experiment.evaluation_stages import JUDGE_REPORT, ROWS
from msgm_bench.experiment.graph import Graph, build_graph
from msgm_bench.experiment.grid import Job, failure_reason, run_jobs
from msgm_bench.experiment.plan import Plan, resolve
from msgm_bench.experiment.resolved_spec import ResolvedSpec
from msgm_bench.experiment.skipped import Skipped
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.experiment.stored_result import RESULT, find_result
from msgm_bench.experiment.trackers import Choice, active_trackers, check_trackers
from msgm_bench.registry import registry
from msgm_bench.report import run_folder
from msgm_bench.report.provenance import provenance
from msgm_bench.storage import storage_errors, sweep

log = logging.getLogger(__name__)


@shared_stages.in_all_processes
def run(spec: RunSpec, out: str | Path = "runs") -> Result:
    """Train, unlearn, score; go on where an earlier attempt stopped.

    Args:
        spec: The request.
        out: Folder in which the run folder is made.

    Returns:
        The content of ``result.json``.

    Raises:
        UsageError: The request is wrong; nothing was trained.
        MsgmBenchError: The run failed; the stages that are done stay in the cache.
    """
    return _run_plan(resolve(spec), output_folder(out))


@shared_stages.in_all_processes
def run_grid(
    specs: Sequence[RunSpec],
    out: str | Path = "runs",
    executor: Executor | None = None,
    trackers: Sequence[Choice] = (),
) -> list[Result]:
    """Run several requests; one that fails leaves a failed result and the others go on.

    Args:
        specs: The requests.
        out: Folder in which the run folders are made.
        executor: Runs them; one after the other without it.
        trackers: Name and options of trackers, which receive the events of workers, too.

    Raises:
        UsageError: Any of the requests is wrong; nothing was trained.
    """
    check_trackers(trackers)
    plans = [resolve(spec) for spec in specs]
    folder = output_folder(out)
    if executor is None:
        with active_trackers(trackers):
            return [_run_or_fail(plan, folder) for plan in plans]
    job = Job(_run_or_fail, folder, tuple(trackers))
    outcomes, reasons = run_jobs(executor, job, specs)
    results = []
    with active_trackers(trackers):  # the failures that a worker could not report any more
        for plan in plans:
            name = plan.spec.folder
            outcome = outcomes.get(name) or _stored_result(folder / name, build_graph(plan))
            outcome = outcome or next(reasons)
            if isinstance(outcome, str):
                outcome = _failed(plan, folder, outcome)
            results.append(outcome)
    return results


@dataclass(frozen=True)
class Preview:
    """The work of a run that has not started.

    Attributes:
        stages: Name of each stage, the stage, and whether it is cached. A drawing from the control
            or from the base is ``control of TASK`` or ``base of TASK``.
        skipped: Tasks and metrics that do not apply, and why.
        null_metrics: Metrics whose values will be null, and why.
        base: The base checkpoint; empty where the base model is trained here.
    """

    stages: Sequence[tuple[str, Stage, bool]]
    skipped: Sequence[Skipped]
    null_metrics: Sequence[Skipped]
    base: str = ""


def dry_run(spec: RunSpec) -> Preview:
    """Plan a run without starting it; trains nothing and downloads nothing.

    A run whose method is skipped has no stages.

    Raises:
        UsageError: The request is wrong.
        StorageError: Data or a base model are not on this machine.
    """
    cache, plan = Cache(), resolve(spec, download=False)
    if plan.skipped is not None:
        return Preview((), (plan.skipped,), ())
    graph, evaluation = build_graph(plan), plan.evaluation
    titles = graph.titles
    return Preview(
        [(titles[s.key], s, cache.find(s.key) is not None) for s in graph.stages.values()],
        evaluation.skipped,
        null_metrics(evaluation.metrics, evaluation.judge),
        "" if plan.base is None else str(plan.base),
    )


def output_folder(out: str | Path) -> Path:
    """The folder for results, made and tried before anything is trained.

    Raises:
        StorageError: It cannot be made or written.
    """
    folder = Path(out).expanduser().absolute()
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".msgm-bench-probe"
        probe.touch()
        probe.unlink()
    return folder


def _run_or_fail(plan: Plan, out: Path) -> Result:
    """The result of a run, a failed one where it raises."""
    try:
        return _run_plan(plan, out)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - one run must not take the grid down
        return _failed(plan, out, failure_reason(error))


def _run_plan(plan: Plan, out: Path) -> Result:
    """Run the stages of a plan, then write its run folder, the result last."""
    hook = registry().manager.hook
    target = out / plan.spec.folder
    spec = ResolvedSpec.of(plan)
    archive_other_base(target, spec.base)
    hook.run_started(spec=spec.model_dump(), folder=str(target))
    if plan.skipped is not None:
        return _finish(target, Result(status="skipped", reason=plan.skipped.reason, spec=spec))
    cache, graph = shared_stages.shared_cache(plan.spec), build_graph(plan)
    cache.reserve(graph.stages.values())
    known: dict[str, Entry] = {}
    titles = graph.titles
    entries = {name: run_stage(stage, cache, known, titles) for name, stage in graph.stages.items()}
    stored = _stored_result(target, graph)
    if stored is not None:
        sweep(target / RESULT)  # a kill right after it was written left its litter
        hook.run_ended(result=stored, folder=str(target))
        return stored
    result = _result(plan, spec, entries, graph)
    run_folder.write(target, plan, graph, entries, result)
    return _finish(target, result)


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
    judge = load_json(entries[graph.judge.name].path, JUDGE_REPORT)
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


def _stored_result(target: Path, graph: Graph) -> Result | None:
    """The result in the run folder, if it is of these very stages."""
    stored = find_result(target)
    if stored is None or stored.status != "ok":
        return None
    key = stored.provenance.get("stages", {}).get(graph.rows.name)
    return stored if key == graph.rows.key else None


def _finish(target: Path, result: Result) -> Result:
    """Write the result, last of all, and announce it."""
    run_folder.write_result(target, result)
    registry().manager.hook.run_ended(result=result, folder=str(target))
    return result


def _failed(plan: Plan, out: Path, reason: str) -> Result:
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
        run_folder.copy_log(target, Cache().partial(build_graph(plan).model.key))
    run_folder.write_result(target, result)
