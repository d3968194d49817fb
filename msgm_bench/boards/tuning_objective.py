"""What a tuning minimises: the rule by which its board ranks.

A trial within the gate's limits is better than one outside. Within, the mean over seeds of the
quantity that ranks decides; outside, the largest excess over a limit, in units of that limit:

    excess = max_l (loss_l - within_l) / within_l,    loss_l the mean over seeds of how much worse
             than the reference's quantity l is (within_l = 1 in the denominator where it is 0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from msgm_bench.api.result import Record, Result, Seed
from msgm_bench.boards.board import Limit, Quantity
from msgm_bench.errors import UsageError

Direction = Literal["up", "down"]
State = Literal["within", "outside", "failed"]
_ORDER: tuple[State, ...] = ("within", "outside", "failed")
ROUNDING = 1e-9  # relative; as in the board's gate


class RunValues(Record):
    """The values of one run.

    Attributes:
        seed: Seed of all its draws.
        status: As in its result.
        reason: Why it failed, or None.
        values: Values of the quantities of the objective, by ``str``; None where there is none.
        digest: Digest of its result.
    """

    seed: Seed
    status: Literal["ok", "failed", "skipped"]
    reason: str | None = None
    values: dict[str, Annotated[float, Field(allow_inf_nan=False)] | None] = {}
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @classmethod
    def of(cls, result: Result, quantities: Sequence[Quantity]) -> RunValues:
        """The values of a result.

        Raises:
            UsageError: A quantity is measured in several ways.
        """
        rows = {str(key): key.row(result) for key in quantities}
        values = {key: None if row is None else row.value for key, row in rows.items()}
        return cls(
            seed=result.spec.seed,
            status=result.status,
            reason=result.reason,
            values=values if result.status == "ok" else {},
            digest=result.digest,
        )


class Score(NamedTuple):
    """The objective of a trial; scores compare, and the smaller is the better.

    Attributes:
        place: 0 within the gate, 1 outside, 2 without a value.
        number: The mean of the quantity that ranks, negative where higher is better; outside the
            gate the excess; infinite without a value.
    """

    place: int
    number: float

    @property
    def state(self) -> State:
        """The place in a word."""
        return _ORDER[self.place]


FAILED = Score(_ORDER.index("failed"), math.inf)


def score(
    runs: Sequence[RunValues],
    reference: Sequence[RunValues],
    rank: Quantity,
    limits: Sequence[Limit],
    directions: Mapping[str, Direction],
) -> Score:
    """The objective of runs of one trial against runs of the reference with the same seeds.

    Args:
        runs: One run a seed.
        reference: One run of the reference for each of these seeds.
        rank: The quantity that decides within the limits.
        limits: The gate.
        directions: Which way is better, by quantity; ``down`` where nothing was measured.
    """
    value = _mean(runs, rank)
    if value is None or {run.seed for run in runs} != {run.seed for run in reference}:
        return FAILED
    excess = [_excess(runs, reference, limit, directions) for limit in limits]
    known = [number for number in excess if number is not None]
    if len(known) < len(excess):
        return FAILED
    worst = max(known, default=0.0)
    if worst > 0:
        return Score(_ORDER.index("outside"), worst)
    return Score(_ORDER.index("within"), _sign(rank, directions) * value)


def _excess(
    runs: Sequence[RunValues],
    reference: Sequence[RunValues],
    limit: Limit,
    directions: Mapping[str, Direction],
) -> float | None:
    """How far a limit is exceeded, in units of it; 0 within; None without a value."""
    ours, theirs = _mean(runs, limit), _mean(reference, limit)
    if ours is None or theirs is None:
        return None
    loss = _sign(limit, directions) * (ours - theirs)
    if loss <= limit.within + ROUNDING * max(1.0, abs(ours), abs(theirs)):
        return 0.0
    return (loss - limit.within) / (limit.within or 1.0)


def _mean(runs: Sequence[RunValues], key: Quantity) -> float | None:
    """The mean over runs; None where one has no value, or there is no run."""
    values = [run.values.get(str(key.key)) for run in runs]
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _sign(key: Quantity, directions: Mapping[str, Direction]) -> int:
    return -1 if directions.get(str(key.key)) == "up" else 1


def directions_of(
    results: Sequence[Result], quantities: Sequence[Quantity]
) -> dict[str, Direction]:
    """Which way is better, by quantity, as far as it was measured.

    Raises:
        UsageError: No direction is better.
    """
    directions: dict[str, Direction] = {}
    for key in quantities:
        for row in filter(None, (key.row(result) for result in results)):
            if row.direction == "none":
                raise UsageError(
                    f"{key} cannot rank or gate: it has no direction", "a quantity with one"
                )
            directions[str(key)] = row.direction
    return directions
