"""A finding: what the paper says, what was computed, and what follows."""

from __future__ import annotations

from dataclasses import dataclass

from msgm_bench import Interval


@dataclass(frozen=True)
class Number:
    """A computed number.

    Attributes:
        what: Noun phrase.
        value: The value.
        unit: The unit; empty for a number without one.
        low: Lower end of its 95 % interval, or None.
        high: Upper end, or None.
        digits: Decimals that are printed.
    """

    what: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    digits: int = 2

    @classmethod
    def of(cls, what: str, interval: Interval, unit: str = "", digits: int = 2) -> Number:
        """An estimate with its interval."""
        return cls(what, interval.value, unit, *interval.ends, digits)


@dataclass(frozen=True)
class Finding:
    """An error of the paper, or of its authors' code, and the computation that shows it.

    Attributes:
        name: The name on the command line.
        where: Place in the paper.
        claim: What stands there.
        computed: What was computed here.
        numbers: The outcome.
        verdict: What follows.
    """

    name: str
    where: str
    claim: str
    computed: str
    numbers: tuple[Number, ...]
    verdict: str
