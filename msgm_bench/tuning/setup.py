"""From a board to a tuning: another forget set, other seeds, and the requests of trials."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from msgm_bench.api import Method, join_names
from msgm_bench.boards.board import Board, Quantity, load
from msgm_bench.boards.collect import collect
from msgm_bench.boards.tuned_options import ranked_overlap, split_options
from msgm_bench.boards.tuning_record import MOST_SEEDS, MOST_TRIALS, Protocol
from msgm_bench.errors import UsageError, did_you_mean, shorten
from msgm_bench.experiment.plan import Plan, resolve
from msgm_bench.experiment.spec import RunSpec, parse_spec
from msgm_bench.registry import registry

TRIALS, DRAWN_SEEDS = 16, (100, 101)
FINALIST_SHARE = 4  # trials to one that goes on to all seeds


@dataclass(frozen=True)
class Machine:
    """Where trials run, which is no part of the tuning.

    Attributes:
        device: As of a run.
        threads: CPU threads, or None.
        base: The base checkpoint of a board of a given base, or None.
    """

    device: str = "auto"
    threads: int | None = None
    base: str | None = None


@dataclass(frozen=True)
class TuningPlan:
    """A tuning that is checked and has not started.

    Attributes:
        board: The board.
        protocol: What is one over all methods.
        methods: The methods to tune.
        machine: Where trials run.
    """

    board: Board
    protocol: Protocol
    methods: tuple[str, ...]
    machine: Machine

    def request(self, method: str, options: Mapping[str, Any], seed: int) -> RunSpec:
        """The run of a method with values of its search space, and what the board fixes.

        Args:
            method: Its name.
            options: Values of the search space; empty: those of the preset.
            seed: Seed of all draws.
        """
        own, training = split_options({**self.fixed(method), **options})
        run = self.protocol.run.model_dump(exclude={"method_params", "training", "base"})
        machine = {"device": self.machine.device, "threads": self.machine.threads}
        return parse_spec(
            {
                **run,
                **machine,
                "base": self.machine.base,
                "method": method,
                "params": own,
                "training_params": training,
                "seed": seed,
                "samples": self.protocol.samples,
            }
        )

    def fixed(self, method: str) -> dict[str, Any]:
        """Options that the board states and the method does not tune, by name."""
        run, space = self.board.run, method_class(method).search_space
        stated = dict(run.method_params.get(method, {}))
        stated |= {f"training.{k}": v for k, v in run.training.get(method, {}).items()}
        return {key: value for key, value in stated.items() if key not in space}


def method_class(name: str) -> type[Method]:
    """The class of an installed method.

    Raises:
        UsageError: It is not installed.
    """
    return cast(type[Method], registry().entry("methods", name).cls)


def plan_tuning(
    folder: Path,
    *,
    forget: str | None = None,
    seeds: Sequence[int] = DRAWN_SEEDS,
    trials: int = TRIALS,
    finalists: int | None = None,
    methods: Collection[str] = (),
    samples: int | None = None,
    machine: Machine | None = None,
) -> TuningPlan:
    """The tuning of a board, checked before anything is trained.

    Args:
        folder: The board.
        forget: Classes to forget, as a list; None: the next ones after the board's.
        seeds: Seeds of the runs.
        trials: Trials of each method.
        finalists: Trials that go on to all seeds; None: a quarter.
        methods: Names; empty: all of the board but baselines.
        samples: Cap of the evaluation sets; None: as in the board's runs.
        machine: Where trials run.

    Raises:
        UsageError: Forget set or seeds are ranked, a method is not on the board or a baseline, or
            the numbers of trials and finalists are impossible.
        StorageError: A file of the board cannot be read.
    """
    board, machine = load(folder), machine or Machine()
    results = collect(board, folder).results
    if (board.run.base is None) != (machine.base is None):
        raise UsageError(
            f"the board's base model is {board.run.base or 'trained by the bench'}",
            "--base for a board of a given base, and for no other",
        )
    used = {row.task for row in (key.row(r) for r in results for key in _decisive(board)) if row}
    tasks = [name for name in board.run.tasks if name in used or not results]
    changes = {"tasks": tasks, "method_params": {}, "training": {}}
    repeated = sorted({seed for seed in seeds if list(seeds).count(seed) > 1})
    if repeated:
        raise UsageError(
            f"the seed {repeated[0]} is there twice", "different seeds, such as 100,101"
        )
    chosen = max(1, trials // FINALIST_SHARE) if finalists is None else finalists
    _check_numbers(trials, chosen, seeds)
    protocol = Protocol(
        run=board.run.model_copy(update=changes),
        samples=samples,
        seeds=list(seeds),
        trials=trials,
        finalists=chosen,
        rank=board.rank.key,
        gate=board.gate,
    )
    plan = TuningPlan(board, protocol, _methods(board, methods), machine)
    plan = _with_forget_set(plan, forget)
    ranked = {result.spec.seed for result in results}
    for problem in ranked_overlap(board, plan.protocol, ranked):
        raise UsageError(
            f"a tuning on what is ranked: {problem}",
            "a forget set (--forget) without the board's classes, and other seeds (--seeds)",
        )
    return plan


def _check_numbers(trials: int, finalists: int, seeds: Sequence[int]) -> None:
    """Refuse impossible numbers of trials, finalists or seeds."""
    if not 1 <= finalists <= trials <= MOST_TRIALS:
        what = f"{finalists} finalists of {trials} trials"
        raise UsageError(what, f"1 to {MOST_TRIALS} trials, and no more finalists than trials")
    if not 1 <= len(seeds) <= MOST_SEEDS:
        raise UsageError(f"a tuning with {len(seeds)} seeds", f"1 to {MOST_SEEDS} seeds")


def _decisive(board: Board) -> list[Quantity]:
    return [board.rank.key, *(limit.key for limit in board.gate.limits)]


def _methods(board: Board, names: Collection[str]) -> tuple[str, ...]:
    """The methods to tune, in the board's order.

    Raises:
        UsageError: One is not on the board, or a baseline; or none is left.
    """
    tunable = [name for name in board.methods if not method_class(name).baseline]
    for name in names:
        if name in board.methods and name not in tunable:
            raise UsageError(
                f"{name} has nothing to tune: it is what the others are compared with",
                ", ".join(tunable),
            )
        if name not in tunable:
            near = did_you_mean(name, tunable)
            raise UsageError(
                f"no method {shorten(name)!r} of the board to tune{near}", ", ".join(tunable)
            )
    if not tunable:
        raise UsageError("the board has baselines alone", "a method that is none")
    return tuple(name for name in tunable if name in names or not names)


def _with_forget_set(plan: TuningPlan, forget: str | None) -> TuningPlan:
    """The plan with the classes of its own forget set, by the names that the data have.

    Raises:
        UsageError: The data have no such class; or all were needed for other classes.
    """
    reference = plan.board.gate.reference
    if forget is None:
        own = resolve(plan.request(reference, {}, plan.protocol.seeds[0]))
        forget = join_names([own.data.classes[i] for i in next_classes(own)])
    request = plan.request(reference, {}, plan.protocol.seeds[0])
    other = resolve(parse_spec(request.model_dump() | {"forget": forget}))
    if plan.board.run.base not in (None, getattr(other.base, "sha256", None)):
        raise UsageError("--base is another model than the board's", f"{plan.board.run.base}")
    names = [other.data.classes[i] for i in other.targets]
    run = plan.protocol.run.model_copy(update={"forget": names})
    protocol = plan.protocol.model_copy(update={"run": run})
    return TuningPlan(plan.board, protocol, plan.methods, plan.machine)


def next_classes(plan: Plan) -> list[int]:
    """Each class to forget moved on by the smallest number that leaves none of them.

    Raises:
        UsageError: There is no such number.
    """
    count, targets = len(plan.data.classes), set(plan.targets)
    for shift in range(1, count):
        moved = {(target + shift) % count for target in targets}
        if not moved & targets:
            return sorted(moved)
    raise UsageError(
        f"no forget set beside {', '.join(plan.spec.forget)}: too many classes are forgotten",
        "--forget with classes that the board keeps",
    )
