"""Columns that installed metrics declare for the models of a track."""

from __future__ import annotations

from collections.abc import Sequence

from msgm_bench.api import MetricColumn, Track
from msgm_bench.api.result import Result
from msgm_bench.boards.board import Column, Quantity
from msgm_bench.boards.plausibility import metrics


def declared(track: Track) -> list[MetricColumn]:
    """The declarations for a track, from left to right."""
    columns = [column for metric in metrics() for column in metric.columns]
    chosen = [column for column in columns if column.track in (None, track)]
    return sorted(chosen, key=lambda column: column.position)


def track_columns(track: Track) -> list[Column]:
    """The columns of a track's tables; of two declarations of one quantity the first."""
    columns: dict[Quantity, Column] = {}
    for entry in (entry for entry in declared(track) if entry.in_tables):
        column = Column.model_validate(
            entry.model_dump(include={"metric", "split", "protocol", "label", "digits"})
        )
        columns.setdefault(column.key, column)
    return list(columns.values())


def ranking_quantity(results: Sequence[Result], track: Track) -> Quantity | None:
    """What ranks a track: the leftmost declaration that ranks and has a value in the results.

    The leftmost that ranks where none has a value; None where none is declared.
    """
    ranking = [
        Quantity(metric=entry.metric, split=entry.split, protocol=entry.protocol)
        for entry in declared(track)
        if entry.ranks
    ]
    measured = (key for key in ranking if any(key.row(result) is not None for result in results))
    return next(measured, ranking[0] if ranking else None)
