"""The trials of a tuning: through the ordinary grid, recorded after each batch of runs.

For each method, all trials run with the first seed; the ``finalists`` best of them run with all
seeds, and the best of those over all seeds is chosen (successive halving with one cut: Jamieson
and Talwalkar 2016, arXiv:1502.07943, with seeds in the place of epochs).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgm_bench.api import Executor, Result
from msgm_bench.api.result import digest
from msgm_bench.api.search_space import TRAINING
from msgm_bench.boards.protocols import settings_diff
from msgm_bench.boards.tuning_objective import RunValues, directions_of
from msgm_bench.boards.tuning_record import MethodTuning, Trial, TuningRecord, read_tuning
from msgm_bench.errors import MsgmBenchError, UsageError
from msgm_bench.experiment.plan import Plan, resolve
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.experiment.worker_events import Listener
from msgm_bench.report.provenance import code_digests
from msgm_bench.runner import run_grid
from msgm_bench.storage import single_line, write_text
from msgm_bench.tuning.draw import draw_options
from msgm_bench.tuning.setup import TuningPlan, method_class

Cell = tuple[RunSpec, int, int]
"""A run, the number of its trial, and its seed."""
NO_SPACE = "it declares no search space"


class Tuning:
    """A tuning in progress.

    Args:
        plan: What is tuned.
        path: The record, which is read first and written after each batch.
        out: Folder of the run folders.
        executor: Its workers run the trials of a batch; one after the other without it.
        listener: Makes an object with life-cycle hooks for each job of a worker.

    Raises:
        UsageError: The record is of another tuning.
        StorageError: It cannot be read.
    """

    def __init__(
        self,
        plan: TuningPlan,
        path: Path,
        out: Path,
        executor: Executor | None = None,
        listener: Listener = contextlib.nullcontext,
    ) -> None:
        self.plan, self.path, self.out = plan, path, out
        self.executor, self.listener = executor, listener
        self.record = _stored_or_new(plan, path)

    @property
    def open_runs(self) -> int:
        """Most runs that are left."""
        protocol = self.plan.protocol
        runs = protocol.trials + protocol.finalists * (len(protocol.seeds) - 1)
        done = sum(
            len([run for run in trial.runs if run.status == "ok"])
            for name, own in self.record.methods.items()
            for trial in own.trials
            if name in self.plan.methods
        )
        skipped = sum(own.skipped is not None for own in self.record.methods.values())
        known = len(self.record.reference)
        left = (len(self.plan.methods) - skipped) * runs - done + len(protocol.seeds) - known
        return max(left, 0)

    def run(self, announce: Callable[[str], None] = lambda method: None) -> TuningRecord:
        """Run what is left; the whole record.

        Args:
            announce: Called with the name of each method before its trials.

        Raises:
            MsgmBenchError: The reference failed, so that nothing can be compared with it.
        """
        announce(self.plan.board.gate.reference)
        self._run_reference()
        for method in self.plan.methods:
            announce(method)
            self._run_method(method)
        return self.record

    def _run_reference(self) -> None:
        """Runs of the gate's reference, with the options of the board."""
        name, seeds = self.plan.board.gate.reference, self.plan.protocol.seeds
        code = code_digests(resolve(self.plan.request(name, {}, seeds[0])))
        known = {run.seed for run in self.record.reference if run.status == "ok"}
        missing = [seed for seed in seeds if seed not in known]
        if code != self.record.reference_code:
            missing = list(seeds)
        if not missing:
            return
        results = self._results([self.plan.request(name, {}, seed) for seed in missing])
        for result in results:
            if result.status != "ok":
                raise MsgmBenchError(
                    f"the reference {name!r} with seed {result.spec.seed} {result.status}: "
                    f"{result.reason}",
                    hint="without it no trial has a quality to be compared with",
                )
        values = {run.seed: run for run in self.record.reference}
        values |= {run.seed: run for run in self._values(results)}
        ordered = [values[seed] for seed in seeds]
        self._store(reference=ordered, reference_code=code, results=results)

    def _run_method(self, method: str) -> None:
        """All trials with the first seed, then the best of them with the others."""
        own = self._begin(method)
        self._store_method(method, own)
        if own.skipped is not None:
            return
        first, *others = self.plan.protocol.seeds
        self._run_cells(method, [(n, first) for n in range(len(own.trials))])
        for_all = sorted(self.record.finalists(method))
        self._run_cells(method, [(n, seed) for seed in others for n in for_all])

    def _begin(self, method: str) -> MethodTuning:
        """The trials of a method: as recorded where they are of the same code, or anew."""
        space, fixed = method_class(method).search_space, self.plan.fixed(method)
        if not space:
            return MethodTuning(space={}, skipped=NO_SPACE)
        plan = resolve(self.plan.request(method, {}, self.plan.protocol.seeds[0]))
        if plan.skipped is not None or plan.training is None:
            reason = "nothing is trained" if plan.skipped is None else plan.skipped.reason
            return MethodTuning(space={}, skipped=reason)
        defaults = {key: _default(plan, key) for key in space}
        described = {key: choices.describe() for key, choices in space.items()}
        drawn = draw_options(method, space, defaults, self.plan.protocol.trials)
        code = code_digests(plan)
        own = MethodTuning(
            space=described,
            defaults=defaults,
            fixed=fixed,
            code=code,
            trials=[Trial(options=options) for options in drawn],
        )
        stored = self.record.methods.get(method)
        return stored if stored is not None and _is_same(stored, own) else own

    def _run_cells(self, method: str, cells: Sequence[tuple[int, int]]) -> None:
        """Run trials with seeds, as far as they have no value yet, and record them."""
        trials = list(self.record.methods[method].trials)
        missing = [
            (n, seed)
            for n, seed in cells
            if not any(run.seed == seed and run.status == "ok" for run in trials[n].runs)
        ]
        if not missing:
            return
        specs = [self.plan.request(method, trials[n].options, seed) for n, seed in missing]
        results = self._results(specs)
        for (n, seed), values in zip(missing, self._values(results), strict=True):
            runs = {run.seed: run for run in trials[n].runs} | {seed: values}
            ordered = [runs[s] for s in self.plan.protocol.seeds if s in runs]
            trials[n] = trials[n].model_copy(update={"runs": ordered})
        own = self.record.methods[method].model_copy(update={"trials": trials})
        self._store_method(method, own, results)

    def _results(self, specs: Sequence[RunSpec]) -> list[Result]:
        """The results; a method need not do every task that the board's runs request."""
        places = (self.out, self.executor, (), self.listener)
        return run_grid(specs, *places, allow_skipped_tasks=True)

    def _values(self, results: Sequence[Result]) -> list[RunValues]:
        return [RunValues.of(result, self.plan.protocol.quantities) for result in results]

    def _store_method(self, method: str, own: MethodTuning, results: Sequence[Result] = ()) -> None:
        self._store(methods={**self.record.methods, method: own}, results=results)

    def _store(self, results: Sequence[Result] = (), **changes: Any) -> None:
        """Write the record with ``changes``, and with the directions that results have."""
        directions = directions_of(results, self.plan.protocol.quantities)
        values = dict(self.record) | changes | {"digest": ""}
        values["directions"] = self.record.directions | directions
        self.record = TuningRecord(**values)
        write_text(self.path, self.record.to_json())


def tune(
    plan: TuningPlan,
    path: Path,
    out: Path = Path("runs"),
    executor: Executor | None = None,
) -> TuningRecord:
    """Run a tuning, or what is left of it, and write its record.

    Args:
        plan: What is tuned.
        path: The record; one that is there already is continued.
        out: Folder of the run folders.
        executor: Its workers run the trials; one after the other without it.

    Raises:
        UsageError: The record at ``path`` is of another tuning.
        StorageError: It cannot be read or written.
        MsgmBenchError: The reference failed.
    """
    return Tuning(plan, path, out, executor).run()


def _stored_or_new(plan: TuningPlan, path: Path) -> TuningRecord:
    """The record at ``path``, or one without a run.

    Raises:
        UsageError: It is of another tuning.
        StorageError: It cannot be read.
    """
    if not path.exists():
        return TuningRecord(protocol=plan.protocol)
    record = read_tuning(path)
    ours, theirs = (p.model_dump(mode="json") for p in (plan.protocol, record.protocol))
    for key, (now, then) in settings_diff(ours, theirs).items():
        raise UsageError(
            f"{single_line(path)} is of another tuning: its {key} is {then!r}, and not {now!r}",
            "the same options as before, to go on with it",
            "move it away, or name another record with --record",
        )
    return record


def _default(plan: Plan, key: str) -> Any:
    """The value of an option of a search space in a plan without tuned options."""
    assert plan.training is not None
    budget, options = plan.training.budget, plan.training.method.options
    owner = budget if key.startswith(TRAINING) else options
    return getattr(owner, key.removeprefix(TRAINING))


def _is_same(stored: MethodTuning, own: MethodTuning) -> bool:
    """Whether recorded trials are those that would be drawn now, by the same code."""
    parts = ("space", "defaults", "fixed", "code", "skipped")
    a, b = (m.model_dump(mode="json", include={*parts}) for m in (stored, own))
    options = [[trial.options for trial in m.trials] for m in (stored, own)]
    return digest([a, options[0]]) == digest([b, options[1]])
