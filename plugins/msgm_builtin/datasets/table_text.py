"""A CSV file of any program, as a header and rows of text."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from pathlib import Path

from msgm_builtin.datasets.files import damaged, read_file
from msgm_builtin.datasets.images import names_error

MAX_BYTES, MAX_LINE, MAX_CELLS, POOL = 2**27, 2**20, 10_000_000, 10_000
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
MARKS = (  # byte-order marks, the longer first
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_rows(path: Path, max_rows: int) -> tuple[list[str], list[list[str]]]:
    """Header and rows of equal length, without blank rows and empty last columns.

    Commas, semicolons, tabs or bars separate the cells: the ones by which all rows have as many
    cells as the header. UTF-8, or UTF-16 and UTF-32 with a byte-order mark.

    Args:
        path: The file.
        max_rows: Largest number of rows.

    Raises:
        StorageError: The file is no such table, with the reason.
    """
    content = read_file(path, MAX_BYTES)
    readings: dict[str, list[list[str]]] = {}
    errors: list[csv.Error] = []
    for separator in _separators(path, content):
        try:
            readings[separator] = _parse(path, content, separator, max_rows)
        except csv.Error as error:
            errors.append(error)
    if not readings:
        raise damaged(path, errors[0])
    even = {separator: rows for separator, rows in readings.items() if _is_even(rows)}
    if len(even) > 1:
        names = " or ".join(SEPARATORS[separator] for separator in even)
        raise damaged(path, f"its cells are separated by {names}", "quote cells that hold them")
    rows = max((even or readings).values(), key=lambda rows: len(rows[0]) if rows else 0)
    if len(rows) < 2:
        what = "a header alone" if rows else "nothing"
        raise damaged(path, f"it holds {what}", "a header, and below it a row for each image")
    header, *rows = rows
    if short := [row[0] for row in rows if len(row) != len(header)]:
        raise names_error(f"{path}: rows without {len(header)} cells", short, "complete these rows")
    while len(header) > 1 and not header[-1] and not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return header, rows


def _separators(path: Path, content: bytes) -> list[str]:
    """Separators in the first line, else the comma."""
    first = next((line for line in _lines(path, content) if line.strip()), "")
    return [separator for separator in SEPARATORS if separator in first] or [","]


def _is_even(rows: list[list[str]]) -> bool:
    """Whether there are columns, and all rows have as many."""
    return bool(rows) and len(rows[0]) > 1 and all(len(row) == len(rows[0]) for row in rows)


def _parse(path: Path, content: bytes, separator: str, max_rows: int) -> list[list[str]]:
    """The rows by one separator; equal short cells are one object."""
    rows, cells, pool = list[list[str]](), 0, dict[str, str]()
    for raw in csv.reader(_lines(path, content), delimiter=separator, strict=True):
        row = [cell.strip() for cell in raw]
        if not any(row):
            continue
        if len(pool) < POOL:
            pool.update((cell, cell) for cell in row[1:])
        rows.append([pool.get(cell, cell) for cell in row])
        cells += len(row)
        if len(rows) > max_rows + 1:
            raise damaged(path, f"more than {max_rows:,} rows", "one row for each image")
        if cells > MAX_CELLS:
            raise damaged(path, f"more than {MAX_CELLS:,} cells")
    return rows


def _lines(path: Path, content: bytes) -> Iterator[str]:
    """Lines with their ends.

    Raises:
        StorageError: The file is no text, or a line is too long.
    """
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    text = io.TextIOWrapper(io.BytesIO(content), encoding=encoding, newline="")
    try:
        while line := text.readline(MAX_LINE):
            if len(line) == MAX_LINE:
                raise damaged(path, f"a line of more than {MAX_LINE:,} letters")
            if "\0" in line:
                raise damaged(path, "no text: it holds zero bytes", "save it as UTF-8")
            yield line.removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise damaged(path, f"no {encoding} text: {error.reason}", "save it as UTF-8") from error
