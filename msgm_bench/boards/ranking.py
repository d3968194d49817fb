"""Who stands where: the gate, the order, the ties and the baseline's bands.

The rule. A method is ranked if every seed of it has a value of the rank metric and if its retain
quality, averaged over the seeds that it shares with the reference, is no more than the gate's
limit worse than the reference's. Ranked methods are ordered by their mean over seeds. Going down
that order, a method joins the group of the one above it while no member of that group leads it. A
method leads another if the 95 % interval of their paired difference over common seeds, two at
least, lies on the better side of zero. Where each has one result, of one seed, their 95 %
intervals over items must lie apart instead: that speaks of two trained models, not of the
methods. A group shares the rank of its first member (competition ranking: 1=, 1=, 3). Each of
these comparisons is made at 95 %, without correction for their number.

The interval of a rank is corrected. Of k ranked methods, one has the ranks from 1 + (methods that
lead it) to k - (methods that it leads), where the k - 1 paired differences of a method have
intervals at 1 - 0.05/(k - 1) each: then all of them hold together with 95 % (Bonferroni), and so
does the interval of its rank. One that leads at this level leads at 95 %, too, and stands in
another group above: no interval leaves out the rank that is shown.

Source of the intervals: Mogstad, Romano, Shaikh, Wilhelm (2024), Review of Economic Studies
91:476, marginal confidence sets for ranks, here with Student's intervals for few seeds.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from msgm_bench.boards.board import Baseline, Gate, Limit, Quantity
from msgm_bench.boards.markdown import remarks
from msgm_bench.errors import UsageError
from msgm_bench.evaluation.statistics import paired_difference
from msgm_bench.storage.markdown import DASH

State = Literal["ranked", "gated", "failed", "missing"]
_STATES: tuple[State, ...] = ("ranked", "gated", "failed", "missing")
LEVEL = 0.05
"""Chance of error that a comparison may have."""


@dataclass(frozen=True)
class RankedRow:
    """The place of a method.

    Attributes:
        method: Its name.
        state: Why it has a rank or none.
        rank: From 1; None where it stands below.
        tied: Whether another method shares the rank.
        notes: Why it stands where it stands.
        interval: First and last rank that 95 % confidence allows; None where no two ranked
            methods have two seeds in common.
    """

    method: str
    state: State
    rank: int | None = None
    tied: bool = False
    notes: tuple[str, ...] = ()
    interval: tuple[int, int] | None = None

    @property
    def label(self) -> str:
        """``1``, ``1=`` where tied, or a dash."""
        return DASH if self.rank is None else f"{self.rank}{'=' if self.tied else ''}"

    @property
    def range(self) -> str:
        """``[1, 3]``, the interval; empty without one."""
        return "" if self.interval is None else "[{}, {}]".format(*self.interval)


def rank(
    frame: pd.DataFrame, methods: Sequence[str], key: Quantity, gate: Gate | None = None
) -> list[RankedRow]:
    """All ``methods`` in the order of the page: the ranked ones first, then those that are not.

    Args:
        frame: As ``collect.tidy`` makes it, with ``key`` and the gate's quantities.
        methods: The rows of the page.
        key: What ranks.
        gate: Quality that a method must have; None ranks all.

    Raises:
        UsageError: The rows say that neither direction is better.
    """
    sign = direction_sign(frame, key)
    states = {method: _state(frame, method, key, gate) for method in methods}
    means = {method: series(frame, method, key).mean() for method in methods}
    ordered = sorted(
        (method for method in methods if states[method][0] == "ranked"),
        key=lambda method: (sign * means[method], method),
    )
    below = sorted(
        (method for method in methods if states[method][0] != "ranked"),
        key=lambda method: (_STATES.index(states[method][0]), methods.index(method)),
    )
    unranked = [RankedRow(method, states[method][0], notes=states[method][1]) for method in below]
    intervals = rank_intervals(frame, ordered, key, sign)
    ranked = _tie(frame, ordered, key, sign)
    return [replace(row, interval=intervals.get(row.method)) for row in ranked] + unranked


def rank_intervals(
    frame: pd.DataFrame, ordered: Sequence[str], key: Quantity, sign: int
) -> dict[str, tuple[int, int]]:
    """First and last rank of each method at 95 %; empty without a pair of two common seeds.

    Args:
        frame: As ``rank`` takes it.
        ordered: The ranked methods, best mean first.
        key: What ranks.
        sign: As of ``direction_sign``.
    """
    pairs = list(itertools.combinations(ordered, 2))
    comparable = [(a, b) for a, b in pairs if len(common_seeds(frame, a, b, key)) > 1]
    if not comparable:
        return {}
    level = LEVEL / (len(ordered) - 1)
    apart = [(a, b) for a, b in comparable if leads(frame, a, b, key, sign, level)]
    better, worse = Counter(b for _, b in apart), Counter(a for a, _ in apart)
    return {method: (1 + better[method], len(ordered) - worse[method]) for method in ordered}


def baseline_violations(frame: pd.DataFrame, baseline: Baseline) -> list[str]:
    """Sentences on each band that the baseline's mean over seeds misses."""
    violations = []
    for band in baseline.bands:
        values = series(frame, baseline.method, band)
        allowed = f"{band.low:g} to {band.high:g}"
        if values.empty or values.isna().any():
            violations.append(f"{baseline.method} has no sound {band} to compare with {allowed}")
        elif not band.low <= values.mean() <= band.high:
            mean = f"{values.mean():.4g}"
            violations.append(f"{baseline.method} has a mean {band} of {mean}, outside {allowed}")
    return violations


def stamps_of(frame: pd.DataFrame) -> list[str]:
    """What the results say against values of their own, each once."""
    return sorted(set(frame["stamp"]) - {""})


def series(frame: pd.DataFrame, method: str, key: Quantity) -> pd.Series[float]:
    """Values by seed; ``NaN`` where a result has none."""
    chosen = rows(frame, method, key)
    return pd.Series(chosen["value"].to_numpy(), index=chosen["seed"].to_numpy(), dtype="float64")


def rows(frame: pd.DataFrame, method: str, key: Quantity) -> pd.DataFrame:
    """The rows of a method and quantity, in the order of ``collect.tidy``: by seed."""
    chosen = (frame["method"].to_numpy() == method) & (frame["key"].to_numpy() == str(key))
    return frame.take(chosen.nonzero()[0])


def common_seeds(frame: pd.DataFrame, a: str, b: str, key: Quantity) -> pd.DataFrame:
    """Values of two methods in the columns 0 and 1, by the seeds that both have a value of."""
    both = [series(frame, a, key), series(frame, b, key)]
    return pd.concat(both, axis=1, join="inner").dropna()


def direction_sign(frame: pd.DataFrame, key: Quantity) -> int:
    """1 where lower is better, -1 where higher is; 1 where nothing was measured.

    Raises:
        UsageError: The rows do not say which way is better, or disagree.
    """
    directions = set(frame.loc[frame["key"] == str(key), "direction"]) - {""}
    if len(directions) > 1 or "none" in directions:
        raise UsageError(
            f"{key} cannot rank or gate: its direction is {' and '.join(sorted(directions))}",
            "one direction, up or down",
            "choose another metric",
        )
    return -1 if directions == {"up"} else 1


def failures(frame: pd.DataFrame, method: str, key: Quantity) -> tuple[str, ...]:
    """What is said of the seeds without a value."""
    chosen = rows(frame, method, key)
    return tuple(remarks(chosen[chosen["value"].isna()]))


def leads(
    frame: pd.DataFrame, a: str, b: str, key: Quantity, sign: int, level: float = LEVEL
) -> bool:
    """Whether ``a`` is better than ``b`` beyond chance.

    By the seeds that both share, or by the items of the only seed, which is compared at 5 %.
    Shares of few items may be equal for all seeds by chance: their differences vary at least by
    what rounding to a count of items makes (``rounding_std``).

    Args:
        frame: As ``rank`` takes it.
        a: A method.
        b: Another.
        key: What ranks.
        sign: As of ``direction_sign``.
        level: Chance of error of the two-sided comparison over seeds.
    """
    both, pair = (series(frame, a, key), series(frame, b, key)), common_seeds(frame, a, b, key)
    if len(pair) == len(both[0]) == len(both[1]) == 1:
        ours, theirs = rows(frame, a, key).iloc[0], rows(frame, b, key).iloc[0]
        low, high = (ours, theirs) if sign > 0 else (theirs, ours)
        return bool(low["high"] < high["low"])
    if len(pair) < 2:
        return False
    least = rounding_std(frame, a, b, key)
    difference = paired_difference(pair[0].to_numpy(), pair[1].to_numpy(), 1 - level, least)
    return difference.high < 0 if sign > 0 else difference.low > 0


def rounding_std(frame: pd.DataFrame, a: str, b: str, key: Quantity) -> float:
    """Standard deviation of the difference of two shares that are rounded to 100/n %.

    r / sqrt(6) with the largest r = 100/n among the results of ``a`` and ``b``, of the variance
    r^2 / 12 of each; 0 where values are no shares.
    """
    both = pd.concat([rows(frame, method, key) for method in (a, b)])
    shares = both[(both["unit"] == "%") & (both["n"] > 0)]
    return 0.0 if shares.empty else float((100 / shares["n"]).max()) / math.sqrt(6)


def _state(
    frame: pd.DataFrame, method: str, key: Quantity, gate: Gate | None
) -> tuple[State, tuple[str, ...]]:
    values = series(frame, method, key)
    if values.empty:
        return "missing", ("no result",)
    if values.isna().any():
        return "failed", failures(frame, method, key)
    limits = gate.limits if gate is not None and gate.reference != method else []
    reference = gate.reference if gate is not None else ""
    reasons = [_outside(frame, method, reference, limit) for limit in limits]
    notes = tuple(reason for reason in reasons if reason)
    return ("gated", notes) if notes else ("ranked", ())


def _outside(frame: pd.DataFrame, method: str, reference: str, limit: Limit) -> str | None:
    """Why a method fails a limit of the gate, or None where it passes."""
    ours, theirs = series(frame, method, limit), series(frame, reference, limit)
    if ours.isna().any():
        return "outside the gate: " + "; ".join(failures(frame, method, limit))
    pair = pd.concat([ours, theirs], axis=1, join="inner")
    if pair.empty or pair.isna().any(axis=None):
        return f"outside the gate: nothing of {reference} to compare its {limit} with"
    a, b = pair[0].mean(), pair[1].mean()
    loss = direction_sign(frame, limit) * (a - b)
    if loss <= limit.within + 1e-9 * max(1.0, abs(a), abs(b)):
        return None
    return (
        f"outside the gate: {limit} is {a:.4g} against {b:.4g} of {reference}, "
        f"{loss:.3g} worse where {limit.within:g} is allowed"
    )


def _tie(frame: pd.DataFrame, ordered: Sequence[str], key: Quantity, sign: int) -> list[RankedRow]:
    groups: list[list[str]] = []
    for method in ordered:
        if groups and not any(leads(frame, a, method, key, sign) for a in groups[-1]):
            groups[-1].append(method)
        else:
            groups.append([method])
    ranked: list[RankedRow] = []
    for index, group in enumerate(groups):
        place = len(ranked) + 1
        above = groups[index - 1][0] if index else None
        for method in group:
            notes: tuple[str, ...] = ()
            if above is not None and not leads(frame, above, method, key, sign):
                notes = (f"its seeds do not tell it from {above} of the rank above either",)
            ranked.append(RankedRow(method, "ranked", place, len(group) > 1, notes))
    return ranked
