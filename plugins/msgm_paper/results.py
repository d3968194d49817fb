"""Results on the disk, and the measured value of several of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from msgm_bench import Interval, Result, Row, StorageError, UsageError, digest, seeds_interval
from msgm_bench.storage import read_json

RESULT, BOARD = "result.json", "results"  # of a run folder; the folder of a board's results
SHIPPED = Path(__file__).with_name("measured")  # results for the paper's tables


@dataclass(frozen=True)
class Collected:
    """Results under some folders.

    Attributes:
        results: Valid results, in the order of their paths; copies count once.
        broken: Files that are no results, and the reasons.
    """

    results: tuple[Result, ...] = ()
    broken: dict[Path, str] = field(default_factory=dict)


def collect(folders: Sequence[str]) -> Collected:
    """Every ``result.json`` and every board's results under ``folders``, which may be files.

    The folder ``SHIPPED`` is read like a board's.

    Raises:
        UsageError: A folder does not exist.
    """
    missing = [folder for folder in folders if not Path(folder).exists()]
    if missing:
        raise UsageError(
            f"no such folder: {', '.join(missing)}", "--out folders of runs", "check --runs"
        )
    return _read(dict.fromkeys(path for folder in folders for path in _files(Path(folder))))


def _read(paths: Iterable[Path]) -> Collected:
    results: dict[str, Result] = {}
    broken: dict[Path, str] = {}
    for path in paths:
        try:
            result = Result.model_validate({"schema": None} | _mapping(path))
        except StorageError as error:
            broken[path] = error.what
        except ValidationError as error:
            first = error.errors()[0]
            what = first["msg"].removeprefix("Value error, ")
            broken[path] = ": ".join([*map(str, first["loc"]), what])
        else:
            results.setdefault(result.model_dump_json(exclude={"provenance"}), result)
    return Collected(tuple(results.values()), broken)


def _mapping(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        StorageError: The file cannot be read, or has another content.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise StorageError(f"{path} contains no JSON object")
    return document


def _files(path: Path) -> list[Path]:
    """Results of run folders and of boards under ``path``."""
    if path.is_file():
        return [path]
    within = path.glob("*.json") if path.resolve().name in (BOARD, SHIPPED.name) else ()
    return sorted({*path.rglob(RESULT), *path.rglob(f"{BOARD}/*.json"), *within})


@dataclass(frozen=True)
class Measurement:
    """The value of one variant of a run, over its seeds.

    Attributes:
        interval: Value and 95 % interval, over the items of one seed or over several seeds; None
            where a seed has no value.
        n: Smallest number of items of a seed.
        seeds: Seeds.
        preset: The preset.
        reason: Reason why there is no value.
    """

    interval: Interval | None
    n: int
    seeds: tuple[int, ...]
    preset: str
    reason: str = ""


def variant(result: Result, row: Row) -> str:
    """Digest of all that seeds must share to be averaged: options and protocol."""
    options = result.spec.model_dump(mode="json", exclude={"seed", "seeds"})
    return digest([options, row.protocol, result.protocols[row.protocol].hash])


def measurement(group: Iterable[tuple[Result, Row]]) -> Measurement:
    """One variant: the mean over seeds with Student's interval, or one seed with its own.

    Of several results with the same seeds the first counts.
    """
    by_seed: dict[str, tuple[Result, Row]] = {}
    for result, row in group:
        by_seed.setdefault(digest([result.spec.seed, result.spec.seeds]), (result, row))
    results, rows = zip(*by_seed.values(), strict=True)
    values = [row.value for row in rows if row.value is not None]
    reasons = [row.reason for row in rows if row.value is None]
    if reasons:
        interval = None
    elif len(rows) > 1:
        interval = seeds_interval(values)
    else:
        low = -math.inf if rows[0].low is None else rows[0].low
        high = math.inf if rows[0].high is None else rows[0].high
        interval = Interval(values[0], low, high)
    return Measurement(
        interval,
        min(row.n for row in rows),
        tuple(sorted(result.spec.seed for result in results)),
        results[0].spec.preset,
        reasons[0] if reasons else "",
    )
