"""Values that cannot be: what the rows of an honest result fulfil, whatever was measured.

Each rule follows from how the metrics compute. Shares are ``100 k / n`` of a whole count k with
Wilson's interval; an interval holds its value (a percentile bootstrap excepted); the parts of a
quantity add up. Rules look at protocols by name, so that a third-party metric in per cent is held
to the range only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from msgm_bench.api.result import Result, Row
from msgm_bench.evaluation.statistics import (
    Interval,
    UndefinedError,
    rogan_gladen_interval,
    wilson,
)

SHARES = (
    "unlearning_ratio/judge",
    "unlearning_accuracy/judge",
    "remaining_accuracy/judge",
    "acc/judge",
    "nll/",
)
"""Protocols whose rows in per cent are shares of ``n`` items, but for ``ur_corrected``."""
RANGES = {
    "fid/": (0.0, math.inf),
    "psnr/": (0.0, math.inf),  # of images clamped to [0, 1]
    "ssim/": (-1.0, 1.0),
}
"""Ends of the values of a protocol, by the start of its name."""
TOLERANCE = 1e-6

Rows = Mapping[str, Row]


def violation(result: Result) -> str | None:
    """The first reason why the values of ``result`` cannot be, or None."""
    return next(_violations(result), None)


def _violations(result: Result) -> Iterator[str]:
    for row in result.metrics:
        reason = _row_violation(row, result.protocols[row.protocol].settings)
        if reason is not None:
            yield f"{row.metric} on {row.split} by {row.protocol}: {reason}"
    groups: dict[tuple[str, str], dict[str, dict[str, Row]]] = {}
    for row in result.metrics:
        splits = groups.setdefault((row.task, row.protocol), {})
        splits.setdefault(row.split, {})[row.metric] = row
    for (_, protocol), splits in groups.items():
        for rule in (_ratio, _accuracy, _likelihood):
            yield from (f"{protocol}: {reason}" for reason in rule(result, protocol, splits))


# One row ----------------------------------------------------------------------------------


def _row_violation(row: Row, settings: Mapping[str, Any]) -> str | None:
    low, value, high = row.low, row.value, row.high
    if low is not None and high is not None and low > high:
        return f"its interval ends at {high:g} and begins at {low:g}"
    if value is None:
        return None
    if row.n == 0:
        return f"{value:g} of no item"
    if "bootstrap" not in str(settings.get("interval", "")):
        slack = TOLERANCE * max(1.0, abs(value))
        if (low is not None and value < low - slack) or (high is not None and value > high + slack):
            return f"{value:g} is outside its interval"
    return _out_of_range(row) or _no_share(row)


def _out_of_range(row: Row) -> str | None:
    numbers = [x for x in (row.low, row.value, row.high) if x is not None]
    if row.unit == "%" and not all(-TOLERANCE <= x <= 100 + TOLERANCE for x in numbers):
        return f"{row.value:g} % or its interval is not within 0 and 100"
    for start, (least, most) in RANGES.items():
        within = row.value is None or least - TOLERANCE <= row.value <= most + TOLERANCE
        if row.protocol.startswith(start) and not within:
            return f"{row.value:g} is not within {least:g} and {most:g}"
    return None


def is_share(row: Row) -> bool:
    """Whether a row is the share of a whole count of its items."""
    counted = row.unit == "%" and row.metric != "ur_corrected"
    return counted and row.value is not None and row.protocol.startswith(SHARES)


def _no_share(row: Row) -> str | None:
    """Why a share is none: no whole count, or another interval than Wilson's."""
    if not is_share(row) or row.value is None:
        return None
    count = _count(row)
    if abs(100 * count / row.n - row.value) > TOLERANCE:
        return f"{row.value:.6g} % of {row.n} is no whole number of items"
    expected = _wilson(count, row.n)
    if _differs(row, expected):
        return (
            f"its interval is not Wilson's of {count} of {row.n}, "
            f"{expected.low:.4g} to {expected.high:.4g}"
        )
    return None


def _count(row: Row) -> int:
    return min(row.n, max(0, round((row.value or 0.0) * row.n / 100)))


@functools.lru_cache(maxsize=4096)
def _wilson(count: int, n: int) -> Interval:
    return wilson(count, n).scaled(100)


def _differs(row: Row, expected: Interval) -> bool:
    pairs = ((row.low, expected.low), (row.high, expected.high))
    return any(end is None or abs(end - other) > TOLERANCE for end, other in pairs)


# Rows that belong together ----------------------------------------------------------------


def _ratio(result: Result, protocol: str, splits: Mapping[str, Rows]) -> Iterator[str]:
    """UR counts recognised samples of D_f: with the unrecognised ones they are at most all.

    Classes of a judge with a confusion matrix exclude each other; labels of others may overlap.
    """
    rows = splits.get("samples", {})
    ratio, unknown, argmax = (_share(rows, m) for m in ("ur", "unrecognisable", "ur_argmax"))
    if ratio is None:
        return
    if unknown is not None and _count(ratio) + _count(unknown) > ratio.n:
        yield "ur and unrecognisable are more than all samples"
    if argmax is not None and not (
        0 <= _count(argmax) - _count(ratio) <= (ratio.n if unknown is None else _count(unknown))
    ):
        yield "ur_argmax is not ur and a part of what is unrecognisable"
    exclusive = "confusion" in result.provenance.get("judge", {})
    yield from _parts("ur", ratio, rows, exclusive)
    yield from _corrected(ratio, splits)


def _parts(name: str, whole: Row, rows: Rows, exclusive: bool) -> Iterator[str]:
    """The union of classes is at least the largest, and at most the sum: that, if exclusive."""
    counts = [_count(row) for metric, row in rows.items() if metric.startswith(f"{name}:")]
    if not counts:
        return
    least = sum(counts) if exclusive else max(counts)
    if not least <= _count(whole) <= sum(counts):
        yield f"{name} is {_count(whole)} of {whole.n}, its classes are {sum(counts)} together"


def _corrected(ratio: Row, splits: Mapping[str, Rows]) -> Iterator[str]:
    """Rogan and Gladen's estimate belongs to a whole number of hits among the real items of D_f."""
    corrected = splits.get("samples", {}).get("ur_corrected")
    floor = _share(splits.get("retain", {}), "ur_floor")
    real = _share(splits.get("test", {}), "unrecognisable_floor")
    if corrected is None or corrected.value is None or floor is None or real is None:
        return
    false, retain, forget = _count(floor), floor.n, real.n - floor.n
    rate, excess = corrected.value / 100, _count(ratio) / ratio.n - false / floor.n
    if (excess <= 0) != (rate == 0.0):
        yield "ur_corrected is 0 where ur is above ur_floor, or not 0 where it is not"
    if not 0 < rate < 1 or excess <= 0:
        return
    hits = (excess / rate + false / retain) * forget
    if abs(hits - round(hits)) > TOLERANCE * max(1, forget) or not 0 <= round(hits) <= forget:
        yield "ur_corrected does not follow from ur and ur_floor"
        return
    try:
        expected = rogan_gladen_interval(
            (_count(ratio), ratio.n), (round(hits), forget), (retain - false, retain)
        ).scaled(100)
    except UndefinedError:
        yield "ur_corrected is that of a judge no better than chance"
        return
    if _differs(corrected, expected):
        yield "the interval of ur_corrected is not that of its value"


def _accuracy(result: Result, protocol: str, splits: Mapping[str, Rows]) -> Iterator[str]:
    """What is not recognised does not show the class; each sample is of one class."""
    for rows in splits.values():
        for whole, part in (("ua", "ua_unrecognisable"), ("ua_floor", "ua_unrecognisable_floor")):
            a, b = _share(rows, whole), _share(rows, part)
            if a is not None and b is not None and _count(b) > _count(a):
                yield f"{part} is more than {whole}"
    rows = splits.get("samples", {})
    classes = [row for metric, row in rows.items() if metric.startswith("ua:")]
    whole_row = _share(rows, "ua")
    if classes and whole_row is not None:
        together = (sum(map(_count, classes)), sum(row.n for row in classes))
        if together != (_count(whole_row), whole_row.n):
            yield "ua is not that of its classes together"


def _likelihood(result: Result, protocol: str, splits: Mapping[str, Rows]) -> Iterator[str]:
    """A mean stands where no item failed; nats are bits of a whole number of dimensions."""
    offset = result.protocols[protocol].settings.get("offset")
    for split, rows in splits.items():
        mean, failed = rows.get("nll"), _share(rows, "nll_failed")
        finite, nats = rows.get("nll_finite_mean"), rows.get("nll_nats")
        if mean is None:
            continue
        lost = 0 if failed is None else _count(failed)
        if mean.value is not None and lost:
            yield f"nll on {split} has a value although {lost} items failed"
        if finite is not None and finite.n != mean.n - lost:
            yield f"nll_finite_mean on {split} is of {finite.n} items, not of {mean.n - lost}"
        if finite is not None and mean.value is not None and finite.value != mean.value:
            yield f"nll and nll_finite_mean on {split} differ although no item failed"
        if nats is not None and not _same_unit(mean, nats, offset):
            yield f"nll_nats on {split} is not nll in nats"


def _same_unit(bits: Row, nats: Row, offset: object) -> bool:
    """``nats = (bits - offset) D ln 2`` of a whole number of dimensions D."""
    if bits.value is None or nats.value is None or bits.unit != "bits/dim":
        return True
    plain = bits.value - offset if isinstance(offset, int | float) else bits.value
    if abs(plain) < TOLERANCE:
        return abs(nats.value) < 1.0
    dim = nats.value / (plain * math.log(2))
    return round(dim) >= 1 and abs(dim - round(dim)) < TOLERANCE * max(1.0, dim)


def _share(rows: Rows, metric: str) -> Row | None:
    row = rows.get(metric)
    return row if row is not None and is_share(row) else None
