"""Result files to validated results, and results to a tidy table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from msgm_bench.api.result import Result, digest
from msgm_bench.boards.board import RESULTS, Board, Key
from msgm_bench.boards.protocols import check_hashes, check_same, name_of, settings_diff
from msgm_bench.errors import StorageError, UsageError

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


def read(path: Path) -> Result:
    """One ``result.json``, with its protocols' hashes checked.

    Raises:
        StorageError: The file cannot be read, is no JSON or breaks the schema; it is named.
    """
    try:
        result = Result.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise StorageError(
            f"{path} is no valid result: {where}: {first['msg']}",
            "JSON of schema msgm-bench/result@1",
            "import it again from its run folder",
        ) from error
    check_hashes(result, str(path))
    return result


def results_of(folder: Path) -> list[Path]:
    """The result files of a board's folder, in the order of their names."""
    return sorted((folder / RESULTS).glob("*.json"))


def collect(board: Board, folder: Path) -> list[Result]:
    """All results of a board, checked against it and against each other.

    Raises:
        StorageError: A file is no valid result.
        UsageError: A result does not belong to the board, stands there twice, or measures in
            another way than the rest.
    """
    results: dict[tuple[str, int], Result] = {}
    for path in results_of(folder):
        result = read(path)
        against = foreign(board, result)
        if against:
            raise UsageError(
                f"{path} does not belong to this board: {against}",
                hint="remove the file, or give it a board of its own",
            )
        place = (result.spec.method, result.spec.seed)
        if place in results:
            raise UsageError(
                f"{path} is a second result of {name_of(result)}",
                "one result a method and seed",
                "remove one of the two files",
            )
        results[place] = result
    ordered = sorted(results.values(), key=lambda r: (r.spec.method, r.spec.seed))
    check_options(ordered)
    check_same(ordered, board.keys)
    return ordered


def foreign(board: Board, result: Result) -> str | None:
    """Why ``result`` does not belong to ``board``, or None where it does."""
    cell, spec = board.cell, result.spec
    if spec.method not in board.methods:
        return f"the board does not list the method {spec.method!r}"
    if spec.preset != cell.preset:
        return f"its preset is {spec.preset}, the board's is {cell.preset}"
    for name, ours, theirs in (
        ("dataset", cell.dataset, spec.dataset),
        ("backbone", cell.backbone, spec.backbone),
        ("forget set", sorted(cell.forget), sorted(spec.forget)),
    ):
        if ours != theirs:
            return f"its {name} is {theirs}, the board's is {ours}"
    if spec.conditional != cell.conditional:
        told = {True: "class-conditional", False: "unconditional"}
        return f"its model is {told[spec.conditional]}, the board's are {told[cell.conditional]}"
    if spec.base != cell.base:
        ours, theirs = (base or "trained by the bench" for base in (cell.base, spec.base))
        return f"its base model is {theirs}, the board's is {ours}"
    exempt = spec.method in (board.gate.reference, board.baseline.method)
    if cell.regime not in (None, spec.regime) and not exempt:
        return f"its regime is {spec.regime}, the board's is {cell.regime}"
    passes = spec.settings.get("training", {}).get("passes")
    if passes != cell.passes and not exempt:
        ours, theirs = (f"{n} passes" if n else "one of steps" for n in (cell.passes, passes))
        return f"its budget is {theirs}, the board's is {ours}"
    return None


def check_options(results: Sequence[Result]) -> None:
    """Make sure that only what may differ differs.

    The dataset's and the backbone's options are one over all results; a method's own options,
    regime and budget are one over its seeds.

    Raises:
        UsageError: Naming two results and the options that differ.
    """
    by_method: dict[str, Result] = {}
    for result in results:
        first = by_method.setdefault(result.spec.method, result)
        shared = {"dataset_params", "backbone_params"}
        for other, fields in (
            (results[0], shared),
            (first, shared | {"params", "regime", "settings"}),
        ):
            a, b = other.spec.model_dump(include=fields), result.spec.model_dump(include=fields)
            if digest(a) != digest(b):
                differing = "; ".join(
                    f"{key} is {x!r} against {y!r}" for key, (x, y) in settings_diff(a, b).items()
                )
                raise UsageError(
                    f"{name_of(other)} and {name_of(result)} were run differently: {differing}",
                    "the same options for all seeds of a method, and the same data and backbone",
                    "run one of the two again",
                )


def tidy(results: Iterable[Result], keys: Iterable[Key]) -> pd.DataFrame:
    """One row for each result and key, with ``NaN`` and a reason where there is no value.

    Columns: ``method, seed, key, metric, split, value, low, high, unit, direction, n, protocol,
    hash, reason, stamp``; the value in the row's unit.
    """
    wanted = list(keys)
    records = [_record(result, key) for result in results for key in wanted]
    frame = pd.DataFrame.from_records(records, columns=list(COLUMNS))
    return frame.astype({"value": "float64", "low": "float64", "high": "float64"})


def _record(result: Result, key: Key) -> dict[str, object]:
    row = key.row(result)
    record: dict[str, object] = {
        "method": result.spec.method,
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
    said = {"reason": row.reason or "", "stamp": row.stamp or ""}
    return record | values | {"hash": described.hash} | said
