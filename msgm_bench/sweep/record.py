"""``sweep.json``: quality against network evaluations, for several samplers of one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from msgm_bench.api.columns import MetricColumn
from msgm_bench.api.result import Name, Record, Row, SpecRecord
from msgm_bench.errors import StorageError
from msgm_bench.storage import read_json, single_line
from msgm_bench.storage.validation_text import validation_text

SWEEP_FILE, SWEEP_PLOT = "sweep.json", "sweep.svg"
SCHEMA: Literal["msgm-bench/sweep@1"] = "msgm-bench/sweep@1"
MOST_POINTS, MOST_COLUMNS = 500, 12
_FORMAT, _AGAIN = f"JSON of schema {SCHEMA}", "make it again: msgm-bench sweep nfe RUN"


class Point(Record):
    """One sampler with one budget.

    Attributes:
        sampler: Its name.
        nfe: The budget.
        evaluations: Network evaluations that a sample took, their mean.
        rows: What was measured of the columns.
        protocols: Hash of the protocol of each row, by its id.
    """

    sampler: Name
    nfe: Annotated[int, Field(ge=1, le=10**6)]
    evaluations: Annotated[float, Field(gt=0, le=10**7, allow_inf_nan=False)]
    rows: Annotated[list[Row], Field(max_length=MOST_COLUMNS)]
    protocols: dict[str, str]

    def row(self, column: MetricColumn) -> Row | None:
        """The row of a column; None where nothing was measured."""
        return next((row for row in self.rows if is_of(row, column)), None)


def is_of(row: Row, column: MetricColumn) -> bool:
    """Whether a column shows a row."""
    is_same = (row.metric, row.split) == (column.metric, column.split)
    return is_same and column.protocol in (None, row.protocol)


class Sweep(Record):
    """The points of one model.

    Attributes:
        spec: The run that made the model.
        weights: SHA-256 of the model's weights.
        task: The task that draws.
        columns: What is drawn: a panel each.
        points: By sampler, then by budget.
    """

    schema_: Annotated[Literal["msgm-bench/sweep@1"], Field(alias="schema")] = SCHEMA
    spec: SpecRecord
    weights: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    task: Name
    columns: Annotated[list[MetricColumn], Field(min_length=1, max_length=MOST_COLUMNS)]
    points: Annotated[list[Point], Field(min_length=1, max_length=MOST_POINTS)]

    @model_validator(mode="after")
    def _points_are_unique(self) -> Self:
        keys = [(point.sampler, point.nfe) for point in self.points]
        if len(set(keys)) < len(keys):
            raise ValueError("a sampler has a budget twice")
        return self

    @property
    def samplers(self) -> list[str]:
        """Names of the samplers, in order."""
        return list(dict.fromkeys(point.sampler for point in self.points))

    def to_json(self) -> str:
        """The file."""
        return self.model_dump_json(indent=1, by_alias=True) + "\n"


def read_sweep(path: Path, inside: Path | None = None) -> Sweep:
    """The sweep of a file.

    Args:
        path: The file.
        inside: The folder that it must not leave by symbolic links; its own by default.

    Raises:
        StorageError: It cannot be read, is no JSON or breaks the schema; it is named.
    """
    name, document = single_line(path), read_json(path, inside)
    try:
        if not isinstance(document, dict):
            raise StorageError(f"{name} is no valid sweep: it holds no mapping", _FORMAT, _AGAIN)
        return Sweep.model_validate({"schema": None} | document)
    except (ValidationError, RecursionError) as error:
        raise StorageError(
            f"{name} is no valid sweep: {validation_text(error)}", _FORMAT, _AGAIN
        ) from error
