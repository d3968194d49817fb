"""Values of two results side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from msgm_bench.api import Result, Row
from msgm_bench.boards.protocols import name_without_version
from msgm_bench.evaluation.evidence import is_within
from msgm_bench.submissions.verify import ROUNDING, half_width

Place = tuple[str, str, str, str]  # task, metric, split, protocol without its version


class Outcome(StrEnum):
    """What two values say of each other."""

    EQUAL = "equal"
    WITHIN_NOISE = "within noise"
    DIFFERS = "differs"
    NOT_COMPARABLE = "not comparable"
    NO_VALUE = "no value"
    MISSING = "in one only"


@dataclass(frozen=True)
class ValuePair:
    """Rows of two results for the same task, metric, split and kind of protocol.

    Attributes:
        a: The row of the first result, or None.
        b: The row of the second, or None.
        is_one_protocol: Whether both are of one protocol with the same settings, and of one unit.
    """

    a: Row | None
    b: Row | None
    is_one_protocol: bool

    @property
    def row(self) -> Row:
        """One of the rows, for what both have in common."""
        row = self.a or self.b
        assert row is not None
        return row

    @property
    def difference(self) -> float | None:
        """b - a, where they compare and both have a value."""
        if self.a is None or self.b is None or not self.is_one_protocol:
            return None
        if self.a.value is None or self.b.value is None:
            return None
        return self.b.value - self.a.value

    @property
    def outcome(self) -> Outcome:
        """Within noise: |b - a| <= sqrt(h^2 + k^2), half-widths of both 95 % intervals over items.

        Without an interval they differ by rounding alone.
        """
        if self.a is None or self.b is None:
            return Outcome.MISSING
        if not self.is_one_protocol:
            return Outcome.NOT_COMPARABLE
        if self.difference is None:
            return Outcome.NO_VALUE
        if self.difference == 0:
            return Outcome.EQUAL
        is_rounding = is_within(self.b.value, self.a.value, ROUNDING)
        noise = math.hypot(half_width(self.a), half_width(self.b))
        is_noise = is_rounding or abs(self.difference) <= noise
        return Outcome.WITHIN_NOISE if is_noise else Outcome.DIFFERS


def value_pairs(a: Result, b: Result) -> tuple[ValuePair, ...]:
    """The rows of two results, those of the first in their order, then what only the second has."""
    left, right = _by_place(a), _by_place(b)
    return tuple(_pair(a, b, left.get(place), right.get(place)) for place in left | right)


def _pair(a: Result, b: Result, left: Row | None, right: Row | None) -> ValuePair:
    if left is None or right is None:
        return ValuePair(left, right, False)
    meanings = (
        (row.protocol, result.protocols[row.protocol].hash, row.unit, row.direction)
        for result, row in ((a, left), (b, right))
    )
    return ValuePair(left, right, len(set(meanings)) == 1)


def _by_place(result: Result) -> dict[Place, Row]:
    return {
        (row.task, row.metric, row.split, name_without_version(row.protocol)): row
        for row in result.metrics
    }
