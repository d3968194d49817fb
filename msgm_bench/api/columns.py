"""What a metric declares of its rows: columns of tables, and rows that belong together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from msgm_bench.api.plugin import Options
from msgm_bench.api.result import Direction, Row

Track = Literal["unconditional", "class"]


class MetricColumn(Options):
    """A quantity in the tables that compare methods: those of ``run`` and of ``compare``.

    Columns stand by position, those of one position by the metric's name and in the order of the
    declaration.
    """

    metric: str = Field(min_length=1, description="``metric`` of the rows")
    split: str = Field("samples", description="``split`` of the rows")
    protocol: str | None = Field(None, description="name@version, where several have such rows")
    label: str = Field(
        min_length=1, max_length=40, description="heading, a few words; the unit is the row's"
    )
    digits: int = Field(2, ge=0, le=6, description="decimals")
    direction: Direction = Field(description="which way is better, as in the rows")
    track: Track | None = Field(None, description="the track that has the column; none: all")
    position: int = Field(100, ge=0, description="from left to right")
    ranks: bool = Field(
        False,
        description="whether the methods of its track are ranked by it; of several such columns "
        "the leftmost with a value ranks",
    )


@dataclass(frozen=True)
class MeasuredRows:
    """The rows of one task and protocol in a result.

    Attributes:
        splits: Rows by split and ``metric``.
        settings: Settings of the protocol.
        judge: What the result records of the judge, its confusion matrix where it has one.
    """

    splits: Mapping[str, Mapping[str, Row]]
    settings: Mapping[str, Any]
    judge: Mapping[str, Any]

    def of(self, split: str) -> Mapping[str, Row]:
        """Rows of a split by ``metric``; none where it has none."""
        return self.splits.get(split, {})
