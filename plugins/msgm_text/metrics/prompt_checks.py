"""Rows on images of prompts that are impossible: parts that do not add up."""

from __future__ import annotations

from collections.abc import Iterator

from msgm_bench import MeasuredRows, Row
from msgm_builtin.metrics.row_checks import (
    Rows,
    all_rows,
    count_of,
    share_row,
    share_violations,
)

UNRECOGNISABLE = "_unrecognisable"


def accuracy_violations(measured: MeasuredRows) -> Iterator[str]:
    """Violations of: an unrecognisable image shows nothing; concepts add up to the whole."""
    yield from share_violations(all_rows(measured))
    for rows in measured.splits.values():
        for part in [row for row in rows.values() if UNRECOGNISABLE in row.metric]:
            whole = share_row(rows, part.metric.replace(UNRECOGNISABLE, ""))
            if part.value is not None and whole is not None:
                yield from _part_violations(part, whole)
    for metric in ("ua", "ira", "cra"):
        yield from _concept_violations(metric, measured.of("samples"))


def _part_violations(part: Row, whole: Row) -> Iterator[str]:
    """Violations of: unrecognised images count as unlearned (UA) and never as shown."""
    if part.n != whole.n:
        yield f"{part.metric} is of {part.n} items, {whole.metric} of {whole.n}"
    elif whole.metric.startswith("ua"):
        if count_of(part) > count_of(whole):
            yield f"{part.metric} is more than {whole.metric}"
    elif count_of(part) + count_of(whole) > whole.n:
        yield f"{whole.metric} and {part.metric} are more than all images"


def _concept_violations(metric: str, rows: Rows) -> Iterator[str]:
    """Violations of: each image is searched for one concept, so that these are all images."""
    whole = share_row(rows, metric)
    parts = [row for name, row in rows.items() if name.startswith(f"{metric}:")]
    total = sum(map(count_of, parts)), sum(row.n for row in parts)
    if parts and whole is not None and total != (count_of(whole), whole.n):
        yield f"{metric} is not that of its concepts together"
