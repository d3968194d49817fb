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
        """sqrt(h^2 + h'^2) of the half-widths of both 95 % intervals over items.

        The new run has the seeds of the old one, and is the same number on the same machine.
        """
        widths = [_half_width(row) for row in (self.stored, self.again) if row is not None]
        return math.hypot(*widths)

    @property
    def agrees(self) -> bool:
        """Whether the two values differ by no more than the tolerance."""
        if self.again is None:
            return False
        old, new = self.stored.value, self.again.value
        if is_within(new, old, ROUNDING):
            return True
        return old is not None and new is not None and abs(new - old) <= self.tolerance


def method_results(facts: BoardFacts, method: str, seeds: Collection[int] = ()) -> list[Result]:
    """The results of a method on a board, of these seeds or of all.

    Raises:
        UsageError: There are none.
    """
    results = [
        result
        for result in facts.results
        if result.spec.method == method and (not seeds or result.spec.seed in seeds)
    ]
    if not results:
        places = sorted({f"{r.spec.method} seed {r.spec.seed}" for r in facts.results})
        near = did_you_mean(method, facts.board.methods)
        raise UsageError(
            f"the board has no result of {method!r}{near}", ", ".join(places) or "none yet"
        )
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
    again = run(spec, out)
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


def _half_width(row: Row) -> float:
    if row.low is None or row.high is None:
        return 0.0
    return (row.high - row.low) / 2
