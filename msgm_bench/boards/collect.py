"""Result files to validated results, and results to a tidy table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from msgm_bench.api.result import OTHER_SCHEMA, OUTDATED, SCHEMA, Result
from msgm_bench.boards.board import RESULTS, Board, Quantity
from msgm_bench.boards.comparability import Place, agreeing, place
from msgm_bench.boards.eligibility import mismatch
from msgm_bench.boards.plausibility import violation
from msgm_bench.boards.protocols import check_hashes, name_of
from msgm_bench.errors import StorageError, shorten
from msgm_bench.report.stated_command import command_words
from msgm_bench.storage import parse_json, read_text, single_line
from msgm_bench.storage.validation_text import validation_text

COMMAND_LIMIT = 500  # letters of a command in an error
FORMAT = f"JSON of schema {SCHEMA}"
COLUMNS = (
    "method",
    "seed",
    "key",
    "metric",
    "split",
    "value",
    "low",
    "high",
    "unit",
    "direction",
    "n",
    "protocol",
    "hash",
    "reason",
    "stamp",
)


def read(path: Path, inside: Path | None = None) -> Result:
    """One ``result.json``: its schema, its digest and its protocols' hashes are checked.

    Args:
        path: The file.
        inside: The folder that it must not leave by symbolic links; its own by default.

    Raises:
        StorageError: The file cannot be read, is no JSON or breaks the schema; it is named.
    """
    return parse(read_text(path, inside), single_line(path))


def parse(text: str, name: str) -> Result:
    """The result in the text of a ``result.json``; ``name`` names it in errors.

    Raises:
        StorageError: As ``read``.
    """
    try:
        document = parse_json(text, name)
    except StorageError as error:
        raise StorageError(error.what, FORMAT) from error
    if not isinstance(document, dict):
        raise StorageError(f"{name} is no valid result: it holds no mapping", FORMAT)
    try:
        result = Result.model_validate({"schema": None, "digest": None} | document)
    except (ValidationError, RecursionError) as error:
        raise _invalid(name, error, document) from error
    check_hashes(result, name)
    return result


def _invalid(
    name: str, error: ValidationError | RecursionError, document: Mapping[str, Any]
) -> StorageError:
    """The schema's first error in one sentence; of an older version, with the command to repeat."""
    what = validation_text(error)
    if what == OUTDATED:
        command = _command(document)
        return StorageError(f"{name}: {OUTDATED}" + (f": {command}" if command else ""))
    hint = "" if what.endswith(OTHER_SCHEMA) else "import it again from its run folder"
    return StorageError(f"{name} is no valid result: {what}", FORMAT, hint)


def _command(document: Mapping[str, Any]) -> str:
    """The command of this program in a document's provenance; empty where there is none."""
    provenance = document.get("provenance")
    command = provenance.get("command") if isinstance(provenance, dict) else None
    return "" if command_words(command) is None else shorten(single_line(command), COMMAND_LIMIT)


@dataclass(frozen=True)
class Collected:
    """The results of a board's folder.

    Attributes:
        results: Those that stand on the board, by method and seed.
        left_out: The other files, and why.
    """

    results: tuple[Result, ...] = ()
    left_out: Mapping[Path, str] = field(default_factory=dict)


def results_of(folder: Path) -> list[Path]:
    """The result files of a board's folder, in the order of their names.

    Raises:
        StorageError: ``results`` leads out of the folder, or is none.
    """
    place = folder / RESULTS
    if not place.resolve().is_relative_to(folder.resolve()):
        raise StorageError(
            f"{single_line(place)} leads out of the board",
            f"a folder {RESULTS} inside the board",
            "replace the link by the folder",
        )
    if place.exists() and not place.is_dir():
        raise StorageError(f"{single_line(place)} is no folder", "a folder of results")
    return sorted(place.glob("*.json"))


def collect(board: Board, folder: Path) -> Collected:
    """All results of a board, checked one by one, against it and against each other.

    A file that is no valid result, does not belong to the board, holds values that cannot be,
    stands there twice or measures in another way than most is left out with its reason.

    Raises:
        StorageError: ``results`` leads out of the folder.
        UsageError: Results differ, and nothing says which are meant.
    """
    left: dict[Path, str] = {}
    valid: list[tuple[Path, Result]] = []
    for path in results_of(folder):
        try:
            valid.append((path, read(path, inside=folder)))
        except StorageError as error:
            left[path] = error.what
    standing: dict[Place, tuple[Path, Result]] = {}
    for path, result in sorted(valid, key=_own_name_first):
        reason = rejection(board, result)
        if reason is None and place(result) in standing:
            reason = f"it is a second result of {name_of(result)}: remove one of the two files"
        if reason is not None:
            left[path] = reason
        else:
            standing[place(result)] = (path, result)
    ordered = [standing[name][1] for name in sorted(standing)]
    fit, others = agreeing(board, ordered)
    left.update({standing[name][0]: reason for name, reason in others.items()})
    return Collected(tuple(fit), dict(sorted(left.items())))


def file_name(result: Result) -> str:
    """The name that ``import_results`` gives to a result."""
    return f"{result.spec.method}-s{result.spec.seed}.json"


def _own_name_first(entry: tuple[Path, Result]) -> tuple[bool, str]:
    path, result = entry
    return path.name != file_name(result), path.name


def rejection(board: Board, result: Result) -> str | None:
    """Why a valid result may not stand on the board, looked at by itself, or None."""
    against = mismatch(board, result)
    if against is not None:
        return f"it does not belong to this board: {against}"
    impossible = violation(result)
    return None if impossible is None else f"its values cannot be: {impossible}"


def tidy(
    results: Iterable[Result], quantities: Iterable[Quantity], labels: Iterable[str] | None = None
) -> pd.DataFrame:
    """One row for each result and quantity, by seed, with ``NaN`` and a reason without a value.

    Columns: ``method, seed, key, metric, split, value, low, high, unit, direction, n, protocol,
    hash, reason, stamp``; the value in the row's unit. ``labels`` stand for the methods' names.
    """
    wanted, listed = list(quantities), list(results)
    names = [result.spec.method for result in listed] if labels is None else labels
    by_seed = sorted(zip(listed, names, strict=True), key=lambda pair: pair[0].spec.seed)
    records = [_record(result, name, key) for result, name in by_seed for key in wanted]
    frame = pd.DataFrame(records, columns=list(COLUMNS), dtype=object)
    return frame.astype({"value": "float64", "low": "float64", "high": "float64"})


def _record(result: Result, name: str, key: Quantity) -> dict[str, object]:
    row = key.row(result)
    record: dict[str, object] = {
        "method": name,
        "seed": result.spec.seed,
        "key": str(key),
        "metric": key.metric,
        "split": key.split,
    }
    if row is None:
        why = result.reason or ("not measured" if result.status == "ok" else result.status)
        state = "" if result.status == "ok" else f"{result.status}: "
        empty = dict.fromkeys(("unit", "direction", "protocol", "hash", "stamp"), "")
        return record | empty | {"value": math.nan, "n": 0, "reason": f"{state}{why}"}
    values = row.model_dump(include={"value", "low", "high", "unit", "direction", "n", "protocol"})
    described = result.protocols[row.protocol]
    remarks = {"reason": row.reason or "", "stamp": row.stamp or ""}
    return record | values | {"hash": described.hash} | remarks
