"""Stages that all processes of a run do together: the first one orders, the others follow."""

from __future__ import annotations

import contextlib
import functools
import logging
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from msgm_bench import ranks
from msgm_bench.api import Executor
from msgm_bench.api.progress import ProgressCallback
from msgm_bench.cache.cache import Cache
from msgm_bench.cache.stage import Stage
from msgm_bench.errors import MsgmBenchError, RankError, StorageError, UsageError
from msgm_bench.experiment.graph import build_graph
from msgm_bench.experiment.plan import Plan, resolve
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.launch import launched
from msgm_bench.signals import sigterm_as_interrupt

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Order:
    """A stage to be run together.

    Attributes:
        spec: The request that it belongs to.
        key: Its key.
        device_type: Of the device on which the processes work.
        work: Its folder.
        needs: The folders of its needs.
    """

    spec: RunSpec
    key: str
    device_type: str
    work: Path
    needs: Mapping[str, Path]


@dataclass(frozen=True)
class _End:
    """The end of the work.

    Attributes:
        outcome: What the first process returns.
        reason: Why it failed, or None.
        is_interrupted: Whether the user stopped it.
    """

    outcome: Any = None
    reason: str | None = None
    is_interrupted: bool = False


def in_all_processes(function: Callable[P, T]) -> Callable[P, T]:
    """``function`` runs in the first process of a launcher; all processes return its outcome.

    The others do their share of the stages that it runs together. Where it raises, or the user
    stops any process, so do all.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        launch = launched()
        if launch.count == 1:
            return function(*args, **kwargs)
        # when a process dies, launchers send SIGTERM to the others, which end with the reason
        with sigterm_as_interrupt(ranks.has_lost_another):
            return _lead(lambda: function(*args, **kwargs)) if launch.leads else cast(T, _follow())

    return call


def refuse(executor: Executor) -> None:
    """Refuse an executor where a launcher has started several processes.

    Raises:
        UsageError: There are several, and an executor would start others.
    """
    count = launched().count
    if count > 1:
        raise UsageError(
            f"--executor {executor.name} in {count} processes of a launcher",
            "one of them: an executor for a grid of runs, torchrun for the GPUs of one run",
        )


def _lead(work: Callable[[], T]) -> T:
    try:
        outcome = work()
    except BaseException as error:
        with contextlib.suppress(RankError):
            ranks.broadcast(_End(None, str(error), isinstance(error, KeyboardInterrupt)))
        raise
    with contextlib.suppress(RankError):  # all is done
        ranks.broadcast(_End(outcome))
    return outcome


def _follow() -> Any:
    """Run what the first process orders, until it ends; what it returns."""
    plan: Plan | None = None
    while isinstance(order := ranks.broadcast(), _Order):
        try:
            with ranks.at_work(order.device_type):
                if plan is None or plan.spec != order.spec:
                    plan = resolve(order.spec)
                _follow_order(order, plan)
        except RankError:
            raise
        except BaseException as error:  # noqa: BLE001 - the first process has its reason
            log.debug("%s", "".join(traceback.format_exception(error)))
    if order.is_interrupted:
        raise KeyboardInterrupt
    if order.reason is not None:
        raise MsgmBenchError(order.reason)
    return order.outcome


def _follow_order(order: _Order, plan: Plan) -> None:
    """This process's share of a stage."""
    stage = _find(order.key, build_graph(plan).stages.values())
    if stage is None:
        raise MsgmBenchError(
            "it plans another run than the first process",
            "the same code, plugins, data and number of threads in all processes",
        )
    for folder in (order.work, *order.needs.values()):
        if not folder.is_dir():
            raise StorageError(
                f"it does not see the cache entry {folder.name[:12]}",
                "a cache (MSGM_BENCH_CACHE) on a disk that all processes share",
            )
    _run(stage, order.work, order.needs, _ignore)


def shared_cache(spec: RunSpec) -> Cache:
    """The cache, in which all processes compute the stages of ``spec`` that they can share."""
    return Cache(run=functools.partial(_run_together, spec))


def _run_together(
    spec: RunSpec, stage: Stage, work: Path, needs: Mapping[str, Path], report: ProgressCallback
) -> None:
    """Run a stage of ``spec`` in all processes where they can share it, else in the first one."""
    count = launched().count
    if count == 1 or stage.shared_on is None:
        if count > 1 and stage.reason_not_to_share:
            log.warning("%s: one of %d processes: %s", stage.name, count, stage.reason_not_to_share)
        stage.run(work, needs, report)
        return
    ranks.broadcast(_Order(spec, stage.key, stage.shared_on, work, needs))
    with ranks.at_work(stage.shared_on):
        _run(stage, work, needs, report)


def _run(stage: Stage, work: Path, needs: Mapping[str, Path], report: ProgressCallback) -> None:
    ranks.current().barrier()  # the others read the data first
    stage.run(work, needs, report)


def _find(key: str, stages: Iterable[Stage]) -> Stage | None:
    """The stage with this key among ``stages`` and what they need."""
    for stage in stages:
        match = stage if stage.key == key else _find(key, stage.needs.values())
        if match is not None:
            return match
    return None


def _ignore(done: int, total: int, values: Mapping[str, float], part: str = "", /) -> None:
    """Progress is the first process's to show."""
