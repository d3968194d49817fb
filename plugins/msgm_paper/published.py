"""The paper's values beside those of a board, for its page of the site."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msgm_bench import hookimpl

if TYPE_CHECKING:
    from msgm_bench import Published, Result
    from msgm_paper.assessment import Assessment


@hookimpl
def published_values(results: Sequence[Result]) -> Sequence[Published]:
    """The values that one of the results answers, in the order of the paper."""
    from msgm_paper.assessment import assess
    from msgm_paper.mapping import setting
    from msgm_paper.tables import published_values as entries

    answered = [
        entry
        for entry in entries()
        if any(setting(entry).matches(result.spec) for result in results)
    ]
    return list(_published(assess(entry, results, entries()) for entry in answered))


def _published(assessments: Iterator[Assessment]) -> Iterator[Published]:
    """Assessments of values of methods, in the words of the site."""
    from msgm_bench import Published
    from msgm_paper.mapping import quantity
    from msgm_paper.tables import SOURCE

    for assessment in assessments:
        entry, measured = assessment.entry, assessment.measured
        if not assessment.setting.method:
            continue
        row = quantity(entry)
        interval = None if measured is None else measured.interval
        yield Published(
            method=assessment.setting.method,
            quantity=entry.place.partition(": ")[2],
            metric=row.metric,
            split=row.split,
            value=entry.value,
            unit=row.unit,
            source=f"{SOURCE}, table {entry.table}",
            status=str(assessment.status),
            notes=(*assessment.reasons, *assessment.remarks),
            measured=None if interval is None else (interval.value, interval.low, interval.high),
        )
