"""A row of a board against a new run of its command."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from msgm_bench.api import Result, Row, SpecRecord
from msgm_bench.boards.board import Board, Quantity
from msgm_bench.boards.protocols import protocol_diff, settings_diff
from msgm_bench.errors import RefusedError, UsageError, did_you_mean
from msgm_bench.evaluation.evidence import is_within
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.resolved_spec import ResolvedSpec
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.runner import run
from msgm_bench.submissions.board import BoardFacts

ROUNDING = 1e-6  # relative; all that a value without an interval may be off


@dataclass(frozen=True)
class Comparison:
    """A quantity of a board, as it stands there and as it was measured again.

    Attributes:
        quantity: The quantity.
        stored: Its row on the board.
        again: Its row in the new run.
    """

    quantity: Quantity
    stored: Row
    again: Row | None

    @property
    def tolerance(self) -> float:
        """sqrt(2) h, with h the half-width of the 95 % interval over items of the new run.

        What the stored row says of its own interval gives it no room. The new run has the seeds of
        the old one, and is the same number on the same machine.
        """
        return 0.0 if self.again is None else math.sqrt(2) * half_width(self.again)

    @property
    def agrees(self) -> bool:
        """Whether value and interval differ by no more than the tolerance, of as many items."""
        old, new = self.stored, self.again
        if new is None or (old.n, old.unit) != (new.n, new.unit):
            return False
        pairs = ((old.value, new.value), (old.low, new.low), (old.high, new.high))
        return all(
            is_within(b, a, ROUNDING)
            or (a is not None and b is not None and abs(b - a) <= self.tolerance)
            for a, b in pairs
        )


def method_results(facts: BoardFacts, method: str, seeds: Collection[int] = ()) -> list[Result]:
    """The results of a method on a board, of these seeds or of all.

    Raises:
        UsageError: There are none, or none of one of the seeds.
    """
    results = [
        result
        for result in facts.results
        if result.spec.method == method and (not seeds or result.spec.seed in seeds)
    ]
    places = sorted({f"{r.spec.method} seed {r.spec.seed}" for r in facts.results})
    allowed = ", ".join(places) or "none yet"
    if all(result.spec.method != method for result in facts.results):
        near = did_you_mean(method, facts.board.methods)
        raise UsageError(f"the board has no result of {method!r}{near}", allowed)
    absent = sorted({*seeds} - {result.spec.seed for result in results})
    if absent:
        raise UsageError(f"the board has no result of {method} seed {absent[0]}", allowed)
    return results


def verify(board: Board, result: Result, spec: RunSpec, out: Path) -> list[Comparison]:
    """Run the command of a result again, and compare what the board shows of it.

    Args:
        board: The board.
        result: A result that stands there.
        spec: The request that its command makes.
        out: Folder in which the run folder is made.

    Raises:
        RefusedError: The command makes another run than the result says, or other protocols.
        MsgmBenchError: The run fails.
    """
    _check_same_run(ResolvedSpec.of(resolve(spec)), result.spec)
    again = run(spec, out, allow_skipped_tasks=True)  # a grid's command may name more tasks
    if again.status != "ok":
        raise RefusedError(f"its command makes a run that is {again.status}: {again.reason}")
    stored = {key: key.row(result) for key in board.quantities}
    names = {row.protocol.rpartition("@")[0] for row in stored.values() if row is not None}
    differing = protocol_diff(result, again, names)
    if differing:
        raise RefusedError(f"it is measured in another way now: {differing[0]}")
    return [Comparison(key, row, key.row(again)) for key, row in stored.items() if row is not None]


def _check_same_run(ours: SpecRecord, theirs: SpecRecord) -> None:
    """The command makes the run that the result describes."""
    pairs = settings_diff(ours.model_dump(mode="json"), theirs.model_dump(mode="json"))
    for key, (now, then) in pairs.items():
        raise RefusedError(
            f"its command makes another run: {key} is {now!r}, and its result says {then!r}",
            hint="an older version made it: run its command and add the new result",
        )


def half_width(row: Row) -> float:
    """Of the 95 % interval over items; 0 where there is none."""
    if row.low is None or row.high is None:
        return 0.0
    return (row.high - row.low) / 2
