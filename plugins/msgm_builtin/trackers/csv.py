"""Scalars and results as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from msgm_bench import Options, Result, StorageError, Tracker, hookimpl
from msgm_bench.storage import open_regular
from msgm_builtin.trackers.append import append, check_appendable
from msgm_builtin.trackers.values import result_values

COLUMNS = ("time", "run", "stage", "key", "step", "name", "value")
RESULT = "result"  # in the place of a stage
KEY_LETTERS = 12


class CsvOptions(Options):
    """The file."""

    path: str = Field(
        "values.csv", min_length=1, description="file, relative to the folder of the command"
    )


class CsvTable(Tracker[CsvOptions]):
    """Appends a row to a table for every scalar that a run logs, and for every value it measures.

    The columns are ``time`` (UTC), ``run`` (the run's folder), ``stage``, ``key`` (of the stage),
    ``step``, ``name`` and ``value``. Values of results have the stage ``result``, the key of their
    digest and no step. A run that resumes goes on behind its last step: no step has two rows. A
    stage of other code or options has another key.
    """

    name = "csv"
    citation = "https://www.rfc-editor.org/rfc/rfc4180"

    def __init__(self, options: CsvOptions | None = None) -> None:
        super().__init__(options)
        self.path = Path(self.options.path).expanduser()
        check_appendable(self.path, self.name)
        self._check_columns()
        self.run, self.key = "", ""
        self.last: dict[tuple[str, str], int] = {}

    @hookimpl
    def run_started(self, folder: str) -> None:
        """Look up what the table has of the run."""
        self.run, self.key, self.last = folder, "", {}
        for row in self._rows():
            if row[1] == folder:
                place, step = (row[2], row[3]), int(row[4] or 0)
                self.last[place] = max(step, self.last.get(place, 0))

    @hookimpl
    def stage_started(self, key: str) -> None:
        """Note the key, of the stage and of its parts."""
        self.key = key[:KEY_LETTERS]

    @hookimpl
    def step_ended(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Append the scalars, if any, of a step that the table does not have."""
        place = (stage, self.key)
        if values and step > self.last.get(place, 0):
            self.last[place] = step
            self._append(place, str(step), values)

    @hookimpl
    def run_ended(self, result: Result, folder: str) -> None:
        """Append the values of a result that the table does not have."""
        self.run = folder
        place = (RESULT, result.digest[:KEY_LETTERS])
        if place not in self.last:
            self.last[place] = 0
            self._append(place, "", result_values(result))

    def _append(self, place: tuple[str, str], step: str, values: Mapping[str, float]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        rows = [(now, self.run, *place, step, name, value) for name, value in values.items()]
        append(self.path, _lines(rows), self.name, _lines([COLUMNS]))

    def _rows(self) -> Iterator[list[str]]:
        """The whole rows of the table, without the header."""
        if not self.path.exists():
            return
        with io.TextIOWrapper(open_regular(self.path), "utf-8", "replace", newline="") as file:
            for row in csv.reader(file):
                if len(row) == len(COLUMNS) and (row[4].isdecimal() or not row[4]):
                    yield row

    def _check_columns(self) -> None:
        """Refuse a table of other columns.

        Raises:
            StorageError: The file has some.
        """
        if self.path.is_file():
            with self.path.open(encoding="utf-8", errors="replace", newline="") as file:
                header = next(csv.reader([file.readline(1000)]), [])
            if header and tuple(header) != COLUMNS:
                raise StorageError(
                    f"{self.path} is another table: its first line is no header of {self.name!r}",
                    ",".join(COLUMNS),
                    f"-x {self.name}.path=FILE",
                )


def _lines(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


@hookimpl
def register_trackers() -> Sequence[type[Tracker]]:
    """A table."""
    return [CsvTable]
