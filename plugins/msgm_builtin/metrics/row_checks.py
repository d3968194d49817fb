"""Rows that are impossible: shares of no whole count, and parts that do not add up.

A share is 100 k / n of a whole count k, with Wilson's interval of k of n.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping

from msgm_bench import Interval, MeasuredRows, MsgmBenchError, Row, rogan_gladen_interval, wilson

TOLERANCE = 1e-6

Rows = Mapping[str, Row]


def all_rows(measured: MeasuredRows) -> Iterator[Row]:
    """The rows of all splits."""
    for rows in measured.splits.values():
        yield from rows.values()


def out_of_range(measured: MeasuredRows, low: float, high: float) -> Iterator[str]:
    """Rows whose value is not within ``low`` and ``high``."""
    for row in all_rows(measured):
        if row.value is not None and not low - TOLERANCE <= row.value <= high + TOLERANCE:
            yield f"{row.metric} on {row.split}: {row.value:g} is not within {low:g} and {high:g}"


def share_violations(rows: Iterable[Row]) -> Iterator[str]:
    """Rows in per cent that are not a share of their items."""
    for row in rows:
        if row.unit != "%" or row.value is None or row.n == 0:
            continue
        count = count_of(row)
        expected = _wilson(count, row.n)
        if abs(100 * count / row.n - row.value) > TOLERANCE:
            value = f"{row.value:.6g} % of {row.n}"
            yield f"{row.metric} on {row.split}: {value} is no whole number of items"
        elif interval_differs(row, expected):
            yield (
                f"{row.metric} on {row.split}: its interval is not Wilson's of {count} of {row.n}, "
                f"{expected.low:.4g} to {expected.high:.4g}"
            )


def count_of(row: Row) -> int:
    """The number of items behind a share."""
    return min(row.n, max(0, round((row.value or 0.0) * row.n / 100)))


def share_row(rows: Rows, metric: str) -> Row | None:
    """The row of a share, or None where it has no value."""
    row = rows.get(metric)
    return row if row is not None and row.unit == "%" and row.value is not None else None


def interval_differs(row: Row, expected: Interval) -> bool:
    """Whether the interval of a row is not ``expected``."""
    pairs = ((row.low, expected.low), (row.high, expected.high))
    return any(end is None or abs(end - other) > TOLERANCE for end, other in pairs)


@functools.lru_cache(maxsize=4096)
def _wilson(count: int, n: int) -> Interval:
    return wilson(count, n).scaled(100)


def ratio_violations(measured: MeasuredRows) -> Iterator[str]:
    """Violations of: ``ur`` and ``unrecognisable`` count disjoint samples, so that at most all.

    Classes of a judge with a confusion matrix exclude each other; attributes may overlap.
    """
    yield from share_violations(row for row in all_rows(measured) if row.metric != "ur_corrected")
    rows = measured.of("samples")
    ratio, unrecognised, argmax = (
        share_row(rows, m) for m in ("ur", "unrecognisable", "ur_argmax")
    )
    if ratio is None:
        return
    if unrecognised is not None and count_of(ratio) + count_of(unrecognised) > ratio.n:
        yield "ur and unrecognisable are more than all samples"
    most = ratio.n if unrecognised is None else count_of(unrecognised)
    if argmax is not None and not 0 <= count_of(argmax) - count_of(ratio) <= most:
        yield "ur_argmax is not ur and a part of what is unrecognisable"
    yield from _class_violations("ur", ratio, rows, "confusion" in measured.judge)
    yield from _correction_violations(ratio, measured)


def _class_violations(name: str, whole: Row, rows: Rows, exclusive: bool) -> Iterator[str]:
    """Violations of: max <= union <= sum of the classes' counts; union = sum if ``exclusive``."""
    counts = [count_of(row) for metric, row in rows.items() if metric.startswith(f"{name}:")]
    if not counts:
        return
    least = sum(counts) if exclusive else max(counts)
    if not least <= count_of(whole) <= sum(counts):
        yield f"{name} is {count_of(whole)} of {whole.n}, its classes are {sum(counts)} together"


def _correction_violations(ratio: Row, measured: MeasuredRows) -> Iterator[str]:
    """Violations of: Rogan and Gladen's estimate has a whole number of hits among real D_f."""
    corrected = measured.of("samples").get("ur_corrected")
    floor = share_row(measured.of("retain"), "ur_floor")
    real = share_row(measured.of("test"), "unrecognisable_floor")
    if corrected is None or corrected.value is None or floor is None or real is None:
        return
    false, retain, forget = count_of(floor), floor.n, real.n - floor.n
    rate, excess = corrected.value / 100, count_of(ratio) / ratio.n - false / floor.n
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
            (count_of(ratio), ratio.n), (round(hits), forget), (retain - false, retain)
        ).scaled(100)
    except MsgmBenchError:
        yield "ur_corrected is that of a judge no better than chance"
        return
    if interval_differs(corrected, expected):
        yield "the interval of ur_corrected is not that of its value"


def accuracy_violations(measured: MeasuredRows) -> Iterator[str]:
    """Violations of: unrecognised samples do not show the class; each sample is of one class."""
    yield from share_violations(all_rows(measured))
    for rows in measured.splits.values():
        for whole, part in (("ua", "ua_unrecognisable"), ("ua_floor", "ua_unrecognisable_floor")):
            a, b = share_row(rows, whole), share_row(rows, part)
            if a is not None and b is not None and count_of(b) > count_of(a):
                yield f"{part} is more than {whole}"
    rows = measured.of("samples")
    classes = [row for metric, row in rows.items() if metric.startswith("ua:")]
    class_total = sum(map(count_of, classes)), sum(row.n for row in classes)
    total = share_row(rows, "ua")
    if classes and total is not None and class_total != (count_of(total), total.n):
        yield "ua is not that of its classes together"


def likelihood_violations(measured: MeasuredRows) -> Iterator[str]:
    """Violations of: no mean beside failed items; nats are bits of a whole number of dimensions."""
    yield from share_violations(all_rows(measured))
    offset = measured.settings.get("offset")
    for split, rows in measured.splits.items():
        mean, failed = rows.get("nll"), share_row(rows, "nll_failed")
        finite, nats = rows.get("nll_finite_mean"), rows.get("nll_nats")
        if mean is None:
            continue
        n_failed = 0 if failed is None else count_of(failed)
        if mean.value is not None and n_failed:
            yield f"nll on {split} has a value although {n_failed} items failed"
        if finite is not None and finite.n != mean.n - n_failed:
            yield f"nll_finite_mean on {split} is of {finite.n} items, not of {mean.n - n_failed}"
        if finite is not None and mean.value is not None and finite.value != mean.value:
            yield f"nll and nll_finite_mean on {split} differ although no item failed"
        if nats is not None and not _is_same_unit(mean, nats, offset):
            yield f"nll_nats on {split} is not nll in nats"


def _is_same_unit(bits: Row, nats: Row, offset: object) -> bool:
    """Whether nats = (bits - offset) D ln 2 for a whole number of dimensions D."""
    if bits.value is None or nats.value is None or bits.unit != "bits/dim":
        return True
    plain = bits.value - offset if isinstance(offset, int | float) else bits.value
    if abs(plain) < TOLERANCE:
        return abs(nats.value) < 1.0
    dim = nats.value / (plain * math.log(2))
    return round(dim) >= 1 and abs(dim - round(dim)) < TOLERANCE * max(1.0, dim)
