"""Which methods of a board its seeds tell apart, and what it would take for the others."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from msgm_bench.api.result import Result
from msgm_bench.boards.board import Quantity, load
from msgm_bench.boards.collect import collect, tidy
from msgm_bench.boards.power import PairedSpread
from msgm_bench.boards.protocols import check_same
from msgm_bench.boards.ranking import common_seeds, direction_sign, leads, rank, rounding_std, rows
from msgm_bench.boards.render import label_of
from msgm_bench.errors import UsageError, did_you_mean

DRAWN = "samples"
"""The split whose items are drawn anew for each seed; others may be images of the dataset, which
are the same for all seeds and cancel in a paired difference."""
Z = float(stats.norm.ppf(0.975))  # half-widths of 95 % in standard errors


@dataclass(frozen=True)
class Separation:
    """Two methods of a ranking.

    Attributes:
        better: The one with the better mean.
        worse: The other.
        is_separate: Whether their seeds tell them apart, as for ties.
        spread: Their paired differences; None with fewer than two common seeds.
    """

    better: str
    worse: str
    is_separate: bool
    spread: PairedSpread | None


@dataclass(frozen=True)
class Separations:
    """Pairs of methods of a board, by one quantity.

    Attributes:
        label: Heading of the quantity.
        unit: Its unit.
        pairs: In the order of the ranking.
        has_drawn_items: Whether each seed draws items of its own, so that theirs is a part of the
            variance over seeds.
    """

    label: str
    unit: str
    pairs: tuple[Separation, ...]
    has_drawn_items: bool


def separations(
    folder: Path, quantity: Quantity | None = None, against: str | None = None
) -> Separations:
    """Neighbours in the ranking of a board, or ``against`` with every other ranked method.

    Args:
        folder: The board.
        quantity: What is compared; None: what ranks the board.
        against: A ranked method.

    Raises:
        UsageError: Fewer than two methods are ranked, ``against`` is not, or the quantity has no
            direction.
        StorageError: As ``collect``.
    """
    board = load(folder)
    results = collect(board, folder).results
    key = (quantity or board.rank).key
    check_same(results, [key])
    frame = tidy(results, [key, *(limit.key for limit in board.gate.limits if limit.key != key)])
    ranked = [row for row in rank(frame, board.methods, key, board.gate) if row.state == "ranked"]
    names = [row.method for row in ranked]
    pairs = tuple(_separation(frame, a, b, key) for a, b in _pairs(names, against))
    unit = str(frame.loc[(frame["key"] == str(key)) & (frame["unit"] != ""), "unit"].iloc[0])
    return Separations(label_of(board, key), unit, pairs, key.split == DRAWN)


def find_quantity(
    own: Sequence[Quantity],
    results: Sequence[Result],
    metric: str,
    split: str | None,
    protocol: str | None,
) -> Quantity:
    """The quantity of that name: among a board's ``own`` where it is there, or else measured.

    Raises:
        UsageError: None fits, or several do.
    """
    measured = {
        Quantity(metric=row.metric, split=row.split, protocol=row.protocol)
        for result in results
        for row in result.metrics
    }
    for among in (own, sorted(measured, key=str)):
        fits = [
            key
            for key in among
            if (key.metric, split or key.split) == (metric, key.split)
            and protocol in (None, key.protocol)
        ]
        if len(fits) == 1:
            return fits[0]
        if fits:
            raise UsageError(
                f"{metric} means several quantities",
                "; ".join(map(str, fits)),
                "add --split, or --protocol",
            )
    names = families(metric, {key.metric for key in measured})
    wanted = " ".join(word for word in (metric, split, protocol) if word)
    raise UsageError(f"no result has {wanted}{did_you_mean(metric, names)}", ", ".join(names))


def families(metric: str, names: Collection[str]) -> list[str]:
    """``names`` for a reader who asked for ``metric``: ``ur_at:...`` stands for all that begin so.

    Of one that begins with a family's name they are the family's, each by itself.
    """
    family, mark, _ = metric.partition(":")
    own = sorted(name for name in names if mark and name.startswith(f"{family}:"))
    parts = (name.partition(":") for name in names)
    return own or sorted({f"{first}:..." if rest else first for first, _, rest in parts})


def item_variance(frame: pd.DataFrame, method: str, key: Quantity) -> float:
    """Variance of a value by its items: ``(half-width / 1.96)^2`` of the 95 % interval.

    The mean over seeds; NaN where a result has no interval.
    """
    chosen = rows(frame, method, key)
    errors = (chosen["high"] - chosen["low"]) / (2 * Z)
    return float((errors**2).mean(skipna=False))


def _pairs(names: Sequence[str], against: str | None) -> list[tuple[str, str]]:
    """Pairs of ranked methods, the better one first.

    Raises:
        UsageError: There are none, or ``against`` is not ranked.
    """
    if len(names) < 2:
        raise UsageError(
            f"{len(names)} methods are ranked by this quantity",
            "two methods, each with a value for every seed and within the gate",
        )
    if against is None:
        return list(itertools.pairwise(names))
    if against not in names:
        raise UsageError(
            f"--against {against!r} is not ranked{did_you_mean(against, names)}", ", ".join(names)
        )
    return [pair for pair in itertools.combinations(names, 2) if against in pair]


def _separation(frame: pd.DataFrame, a: str, b: str, key: Quantity) -> Separation:
    is_separate = leads(frame, a, b, key, direction_sign(frame, key))
    pair = common_seeds(frame, a, b, key)
    if len(pair) < 2:
        return Separation(a, b, is_separate, None)
    differences = (pair[0] - pair[1]).to_numpy()
    items = item_variance(frame, a, key) + item_variance(frame, b, key)
    n = int(max(rows(frame, method, key)["n"].max() for method in (a, b)))
    spread = PairedSpread(
        seeds=len(pair),
        difference=float(np.mean(differences)),
        variance=max(float(np.var(differences, ddof=1)), rounding_std(frame, a, b, key) ** 2),
        items=None if key.split != DRAWN or math.isnan(items) else items,
        n=n,
    )
    return Separation(a, b, is_separate, spread)
