"""Columns of a metric in tables, and the rows of one task and protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from msgm_bench.api.plugin import Options
from msgm_bench.api.result import Direction, Row
from msgm_bench.api.track import Track


class MetricColumn(Options):
    """A column of tables that compare methods (``run``, ``compare``), and a panel of sweeps.

    Columns are sorted by position, then by the metric's name, then as they are declared.
    """

    metric: str = Field(min_length=1, description="``metric`` of the rows")
    split: str = Field("samples", description="``split`` of the rows")
    protocol: str | None = Field(
        None, description="name@version, if several protocols have such rows"
    )
    label: str = Field(min_length=1, max_length=40, description="heading; the unit is the row's")
    digits: int = Field(2, ge=0, le=6, description="decimals")
    direction: Direction = Field(description="up if larger is better, as in the rows")
    track: Track | None = Field(None, description="track of the column; null: all")
    position: int = Field(100, ge=0, description="from left to right")
    in_tables: bool = Field(True, description="false: a panel of sweeps alone")
    ranks: bool = Field(
        False,
        description="whether methods are ranked by it; of several such columns of a track the "
        "leftmost with a value ranks",
    )


@dataclass(frozen=True)
class MeasuredRows:
    """The rows of one task and protocol in a result.

    Attributes:
        splits: Rows by split and ``metric``.
        settings: Settings of the protocol.
        judge: The result's record of the judge, with its confusion matrix if it has one.
    """

    splits: Mapping[str, Mapping[str, Row]]
    settings: Mapping[str, Any]
    judge: Mapping[str, Any]

    def of(self, split: str) -> Mapping[str, Row]:
        """Rows of a split by ``metric``; empty if there are none."""
        return self.splits.get(split, {})
